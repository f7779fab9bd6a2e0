// One Node process of a test. Reads lines {"id", "code"} and runs each code as the body of an async function that is given
// `kit`; answers {"id", "value"} or {"id", "error"}. Everything the kit opened is closed when the input ends.
'use strict'

const readline = require('node:readline')
const [library, socket] = process.argv.slice(2)
const lib = require(library)
const AsyncFunction = (async () => {}).constructor
const open = []
const named = new Map()

const connection = () => ({ path: socket, maxRetriesPerRequest: null })
const keep = (thing) => {
  open.push(thing)
  thing.on('error', () => {})
  return thing
}
const once = (key, make) => {
  if (!named.has(key)) named.set(key, make())
  return named.get(key)
}

const kit = {
  lib,
  connection,
  require,
  memory: {},
  sleep: (ms) => new Promise((done) => setTimeout(done, ms)),
  queue: (name, opts = {}) =>
    once(`queue ${name}`, () => keep(new lib.Queue(name, { connection: connection(), ...opts }))),
  flow: () => once('flow', () => keep(new lib.FlowProducer({ connection: connection() }))),
  // Notes each event of a queue as [name, fields].
  listen: async (name) => {
    const events = keep(new lib.QueueEvents(name, { connection: connection() }))
    const seen = []
    const emit = events.emit.bind(events)
    events.emit = (event, ...args) => {
      if (!['error', 'ready', 'ioredis:close'].includes(event)) seen.push([event, args[0] ?? {}])
      if (event === 'error') seen.push(['error', { message: String(args[0]) }])
      return emit(event, ...args)
    }
    await events.waitUntilReady()
    kit.memory[`events ${name}`] = seen
    named.set(`events ${name}`, events)
    return null
  },
  events: (name) => named.get(`events ${name}`),
  seen: (name) => kit.memory[`events ${name}`],
  // A worker that runs `run(job, token)`; with no function it completes every job with the number 1.
  worker: async (name, run = async () => 1, opts = {}) => {
    const worker = keep(new lib.Worker(name, run, { connection: connection(), ...opts }))
    await worker.waitUntilReady()
    return worker
  },
}

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, code } = JSON.parse(line)
  let answer
  try {
    const value = await new AsyncFunction('kit', code)(kit)
    answer = { id, value: value === undefined ? null : value }
  } catch (error) {
    answer = { id, error: String((error && error.stack) || error) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}).on('close', () => process.exit(0))

process.on('unhandledRejection', () => {})
