return redis.error_reply('ERR taking jobs of Bull queues is not yet in this version')
