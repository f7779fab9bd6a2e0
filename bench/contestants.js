// Who is measured: for each family of queues Node's own worker and qfleet, and how each is started and ended.
'use strict'

const path = require('node:path')
const { execFile } = require('node:child_process')
const { promisify } = require('node:util')
const { eventually } = require('./servers')

const run = promisify(execFile)
const QUEUE = 'jobs'

const versionOf = (library) => require(`${library}/package.json`).version

/** Jobs as a producer writes them; the last hundred completed ones stay, as production systems have it. */
const produce = async (library, redisPort, count) => {
  const redis = { host: '127.0.0.1', port: redisPort }
  const { Queue = require(library) } = library === 'bull' ? {} : require(library)
  const queue = library === 'bull' ? new Queue(QUEUE, { redis }) : new Queue(QUEUE, { connection: redis })
  await queue.waitUntilReady?.()
  const opts = { attempts: 3, backoff: { type: 'exponential', delay: 5000 }, removeOnComplete: 100, removeOnFail: 500 }
  for (let made = 0; made < count; made += 1000) {
    await queue.addBulk(Array.from({ length: Math.min(1000, count - made) }, (_, n) => ({
      name: 'send-message',
      data: { conversation: made + n, to: '+5511912345678', text: 'Your order is on its way.', tags: ['order'] },
      opts,
    })))
  }
  await queue.close()
}

const nodeWorker = (library, id, client) => ({
  id,
  name: `Node, ${client}`,
  start: async (place, { redisPort, url, concurrency, label }) => {
    const child = place.spawn(label, process.execPath, [
      path.join(__dirname, 'node-worker.js'), library, client, redisPort, QUEUE, concurrency, url,
    ].map(String))
    return { pids: [child.pid], ...manners(place, child, label) }
  },
})

const qfleet = (binary, driver) => ({
  id: 'qfleet',
  name: 'qfleet',
  start: async (place, { redisPort, url, concurrency, label }) => {
    const socket = path.join(place.dir, `${label}.sock`)
    const manifest = place.write(`${label}.yaml`, [
      `connections: {app: {driver: ${driver}, redis: {url: "redis://127.0.0.1:${redisPort}"}}}`,
      `queues: {${QUEUE}: {concurrency: ${concurrency}, handler: {http: "${url}"}}}`,
      `control: {socket: "${socket}"}`,
      'logging: {level: warn}',
      '',
    ].join('\n'))
    const child = place.spawn(label, binary, ['run', '-c', manifest])
    const workerPid = async () => {
      if (child.exitCode !== null) throw new Error(`qfleet ended:\n${place.log(label)}`)
      const status = await run(binary, ['status', '--json', '--socket', socket]).catch((error) => error)
      return status.stdout && JSON.parse(status.stdout)[0]?.pid
    }
    const pid = await eventually('the worker of qfleet', workerPid)
    return { pids: [pid, child.pid], ...manners(place, child, label) }
  },
})

const manners = (place, child, label) => {
  const failed = (how) => new Error(`${label} ended with ${how} and said:\n${place.log(label).trim()}`)
  return {
    /** Fails when the worker is gone. */
    check: () => {
      if (child.exitCode !== null || child.signalCode !== null) throw failed(child.signalCode ?? child.exitCode)
    },
    /** Ends it as an operator does, and fails when that or anything before it went wrong. */
    stop: async () => {
      child.kill('SIGTERM')
      const how = await child.ended
      if (how !== 0 || place.log(label).trim()) throw failed(how)
    },
  }
}

/** Families of queues: the library that makes the jobs, and who works them. */
const families = (binary) => [
  { id: 'bullmq', title: `BullMQ ${versionOf('bullmq')}`, driver: 'bullmq' },
  { id: 'bullmq6', title: `BullMQ ${versionOf('bullmq6')}`, driver: 'bullmq' },
  { id: 'bull', title: `Bull ${versionOf('bull')}`, driver: 'bull' },
].map((family) => ({
  ...family,
  workers: [
    nodeWorker(family.id, 'fetch', 'fetch'),
    nodeWorker(family.id, 'http', 'http.request'),
    qfleet(binary, family.driver),
  ],
}))

module.exports = { QUEUE, families, produce }
