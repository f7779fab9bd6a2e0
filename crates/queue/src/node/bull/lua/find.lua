return redis.error_reply('ERR finding jobs of Bull queues is not yet in this version')
