// The kit for Bull. Names and shapes follow the one for BullMQ where both can do a thing.
'use strict'

module.exports = (kit) => {
  const Bull = kit.lib
  const address = () => ({ path: kit.socket })
  // On a cluster Bull is given connections ready-made.
  const made = () => kit.cluster({ enableReadyCheck: false, maxRetriesPerRequest: null })
  const where = () => (kit.prefix === 'bull' ? { redis: address() } : { createClient: made })
  const open = (name, opts = {}) => kit.keep(new Bull(name, { ...where(), prefix: kit.prefix, ...opts }))
  const queue = (name, opts) => kit.once(`queue ${name}`, () => open(name, opts))

  // Global events come with values one by one.
  const shapes = {
    completed: (jobId, value) => ({ jobId, returnvalue: value === undefined ? undefined : JSON.parse(value) }),
    failed: (jobId, failedReason) => ({ jobId, failedReason }),
    progress: (jobId, data) => ({ jobId, data }),
    waiting: (jobId) => ({ jobId }),
    active: (jobId) => ({ jobId }),
    stalled: (jobId) => ({ jobId }),
    duplicated: (jobId) => ({ jobId }),
    debounced: (jobId) => ({ jobId }),
    drained: () => ({}),
    paused: () => ({}),
    resumed: () => ({}),
  }

  // The tokens of those who speak differ.
  const spoken = (name, channel, message) => [channel.slice(`${kit.prefix}:${name}:`.length).replace(/@.+$/, '@'), message]

  return {
    connection: address,
    queue,

    // Notes each global event of a queue, and every message about it.
    listen: async (name) => {
      const listener = kit.once(`listener ${name}`, () => open(name))
      const seen = (kit.memory[`seen ${name}`] = [])
      const told = (kit.memory[`told ${name}`] = [])
      for (const [event, shape] of Object.entries(shapes)) {
        await listener.on(`global:${event}`, (...args) => seen.push([event, shape(...args)]))
      }
      await listener.isReady()
      const subscriber = kit.redis().duplicate()
      subscriber.on('pmessage', (_pattern, channel, message) => told.push(spoken(name, channel, message)))
      await subscriber.psubscribe(`${kit.prefix}:${name}:*`)
      return null
    },
    told: async (name) => kit.memory[`told ${name}`],

    finished: (job) => job.finished(),

    // The queue object that works; `opts` as BullMQ's worker has them.
    worker: async (name, run = async () => 1, opts = {}) => {
      const { concurrency = 1, limiter, metrics, settings, ...timing } = opts
      const worker = open(name, { limiter, metrics, settings: { ...timing, ...settings } })
      await worker.isReady()
      worker.process('*', concurrency, run)
      return worker
    },

    progress: (job, value) => job.progress(value),
    unrecoverable: (job, text) => {
      job.discard()
      return kit.error(text)
    },
  }
}
