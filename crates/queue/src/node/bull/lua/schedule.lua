return redis.error_reply('ERR repeating jobs of Bull queues is not yet in this version')
