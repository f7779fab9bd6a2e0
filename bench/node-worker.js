// The peer: a worker as a Node team would write it. Posts each job's data over kept connections and is done when the
// answer is 204. WITH is `fetch`, as most applications have it, or `http.request` with an agent tuned for this.
// usage: node node-worker.js LIBRARY WITH REDIS-PORT QUEUE CONCURRENCY URL
'use strict'

const http = require('node:http')
const [library, client, redisPort, queueName, concurrencyText, url] = process.argv.slice(2)
const concurrency = Number(concurrencyText)
const agent = new http.Agent({ keepAlive: true, maxSockets: concurrency, maxFreeSockets: concurrency })

const byFetch = async (job) => {
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(job.data) })
  if (response.status !== 204) throw new Error(`status ${response.status}`)
  return null
}

const byRequest = (job) => new Promise((resolve, reject) => {
  const body = Buffer.from(JSON.stringify(job.data))
  const headers = { 'content-type': 'application/json', 'content-length': body.length }
  const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
    response.resume()
    response.once('end', () => {
      if (response.statusCode === 204) resolve(null)
      else reject(new Error(`status ${response.statusCode}`))
    })
  })
  request.once('error', reject)
  request.end(body)
})

const post = { fetch: byFetch, 'http.request': byRequest }[client]

const start = () => {
  const redis = { host: '127.0.0.1', port: Number(redisPort) }
  if (library === 'bull') {
    const Queue = require('bull')
    const queue = new Queue(queueName, { redis })
    queue.process('*', concurrency, post)
    return queue
  }
  const { Worker } = require(library)
  return new Worker(queueName, post, { connection: { ...redis, maxRetriesPerRequest: null }, concurrency })
}

const worker = start()
worker.on('error', (error) => console.error(error.message))
worker.on('failed', (_job, error) => console.error(error.message))
process.once('SIGTERM', async () => {
  await worker.close()
  process.exit(0)
})
