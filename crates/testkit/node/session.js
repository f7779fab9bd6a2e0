// One Node process of a test. Reads lines {"id", "code"} and runs each code as the body of an async function that is given
// `kit`; answers {"id", "value"} or {"id", "error"}. Everything the kit opened is closed when the input ends.
//
// The kit is alike for all libraries, so that one test serves them all; `bull.js` and `bullmq.js` have what differs.
'use strict'

const readline = require('node:readline')
// Bull hangs a listener on its connection for each event that is asked for.
require('node:events').defaultMaxListeners = 100
const [library, socket] = process.argv.slice(2)
const lib = require(library)
const AsyncFunction = (async () => {}).constructor
const named = new Map()

// Instead of a socket there may be the ports of a cluster; then all queues have to lie together.
const cluster = socket.startsWith('cluster:') ? socket.slice('cluster:'.length).split(',') : null

const kit = {
  lib,
  library,
  socket,
  prefix: cluster ? '{bull}' : 'bull',
  // A new connection to the cluster, if there is one.
  cluster: (redisOptions = {}) => {
    if (!cluster) return null
    const nodes = cluster.map((port) => ({ host: '127.0.0.1', port: Number(port) }))
    return kit.keep(new (require('ioredis').Cluster)(nodes, { redisOptions, clusterRetryStrategy: () => 100 }))
  },
  require,
  memory: {},
  sleep: (ms) => new Promise((done) => setTimeout(done, ms)),
  // Things of this process that live as long as it does, each made once.
  once: (key, make) => {
    if (!named.has(key)) named.set(key, make())
    return named.get(key)
  },
  // Connections that are cut say so, and nobody needs to hear it.
  keep: (thing) => {
    thing.on('error', () => {})
    return thing
  },
  // A connection of the test's own.
  redis: () => kit.once('redis', () => kit.cluster() ?? kit.keep(new (require('ioredis'))({ path: socket }))),
  // Asks again and again until the answer is one.
  until: async (ask) => {
    for (;;) {
      const answer = await ask()
      if (answer) return answer
      await kit.sleep(5)
    }
  },
  // An error whose stack is the same wherever it is thrown.
  error: (text, Kind = Error) => {
    const error = new Kind(text)
    error.stack = `${error.name}: ${text}`
    return error
  },
  // Bull Board over queues: `open` it with their names, then `ask`.
  board: () => kit.once('board', () => require('./board.js')(kit)),
  // What the listener of a queue has heard, each as [event, fields].
  seen: (name) => kit.memory[`seen ${name}`],
}
Object.assign(kit, require(library === 'bull' ? './bull.js' : './bullmq.js')(kit))

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
