return redis.error_reply('ERR pausing of Bull queues is not yet in this version')
