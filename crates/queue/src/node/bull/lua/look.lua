return redis.error_reply('ERR listing jobs of Bull queues is not yet in this version')
