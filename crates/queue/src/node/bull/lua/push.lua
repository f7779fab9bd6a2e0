return redis.error_reply('ERR adding jobs of Bull queues is not yet in this version')
