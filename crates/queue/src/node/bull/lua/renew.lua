return redis.error_reply('ERR renewing locks of Bull queues is not yet in this version')
