return redis.error_reply('ERR keeping progress and log lines of Bull queues is not yet in this version')
