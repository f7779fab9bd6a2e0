return redis.error_reply('ERR measuring of Bull queues is not yet in this version')
