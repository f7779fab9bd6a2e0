// The kit for BullMQ, of any version.
'use strict'

module.exports = (kit) => {
  const { lib } = kit
  const { prefix } = kit
  const connection = () =>
    kit.cluster({ maxRetriesPerRequest: null }) ?? { path: kit.socket, maxRetriesPerRequest: null }
  const queue = (name, opts = {}) =>
    kit.once(`queue ${name}`, () => kit.keep(new lib.Queue(name, { connection: connection(), prefix, ...opts })))

  return {
    connection,
    queue,
    flow: () => kit.once('flow', () => kit.keep(new lib.FlowProducer({ connection: connection(), prefix }))),

    // Notes each event of a queue as `QueueEvents` gives it.
    listen: async (name) => {
      const events = kit.once(`events ${name}`, () => kit.keep(new lib.QueueEvents(name, { connection: connection(), prefix })))
      const seen = []
      const emit = events.emit.bind(events)
      events.emit = (event, ...args) => {
        // Those with a colon are the same again, named for one job, or about the connection.
        if (!['error', 'ready'].includes(event) && !event.includes(':')) seen.push([event, args[0] ?? {}])
        if (event === 'error') seen.push(['error', { message: String(args[0]) }])
        return emit(event, ...args)
      }
      await events.waitUntilReady()
      kit.memory[`seen ${name}`] = seen
      return null
    },
    events: (name) => kit.once(`events ${name}`),

    // Everything that was told of a queue, word by word.
    told: async (name) => {
      return (await kit.redis().xrange(`${prefix}:${name}:events`, '-', '+')).map(([, fields]) => fields)
    },

    // Resolves with a job's value, or throws its reason, as its producer would wait for it; `listen` comes first.
    finished: (job) => job.waitUntilFinished(kit.once(`events ${job.queueName}`), 150000),

    // A worker that runs `run(job, token)`; with no function it completes every job with the number 1. It begins once the
    // caller has had the time to listen to it.
    worker: async (name, run = async () => 1, opts = {}) => {
      const worker = kit.keep(new lib.Worker(name, run, { connection: connection(), prefix, ...opts, autorun: false }))
      await worker.waitUntilReady()
      if (opts.autorun !== false) setImmediate(() => worker.run().catch((error) => worker.emit('error', error)))
      return worker
    },

    // Inside of `run`: a value for how far it is; an error that no further attempt follows.
    progress: (job, value) => job.updateProgress(value),
    unrecoverable: (_job, text) => kit.error(text, lib.UnrecoverableError),
  }
}
