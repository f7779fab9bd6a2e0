// Stands in for the two applications of node-apps.yaml: adds jobs to their queues with the real libraries, each as the
// application would, and says at the end what it added, as JSON {queue: [id, …]}.
//
//   npm install bull bullmq
//   REDIS_URL=redis://127.0.0.1:6379/0 node feed.js --seconds 130       without --seconds: until Ctrl-C
//
// What a job should meet is in its data: `takes` ms at the receiver, `fails` so many times before it works, or is `refused`.
'use strict'

const { parseArgs } = require('node:util')
const { setTimeout: sleep } = require('node:timers/promises')
const Bull = require('bull')
const bullmq = require('bullmq')
const IORedis = require('ioredis')

const { values } = parseArgs({ options: { seconds: { type: 'string' } } })
const url = process.env.REDIS_URL || 'redis://127.0.0.1:6379/0'
const seconds = values.seconds ? Number(values.seconds) : Infinity

// Which library an application uses, and under which prefix; the same as `connections` in node-apps.yaml.
const APPLICATIONS = {
  crm: { library: 'bull', prefix: 'crm' },
  calendar: { library: 'bullmq', prefix: 'calendar' },
  'calendar-old': { library: 'bull', prefix: 'calendar-old' },
}

// A job every so many ms, which takes so many ms. `burst`: as many more at once, now and then.
const QUEUES = {
  campaigns: { of: 'crm', every: 700, takes: 150 },
  flows: { of: 'crm', every: 500, takes: 60 },
  emails: { of: 'crm', every: 300, takes: 120, fails: 4 },
  webhooks: { of: 'crm', every: 200, takes: 100 },
  ai: { of: 'crm', every: 1000, takes: 700 },
  imports: { of: 'crm', every: 4000, takes: 1500, fails: 0 },
  exports: { of: 'crm', every: 2000, takes: 500 },
  notifications: { of: 'crm', every: 150, takes: 30 },
  'webhook-health-check': { of: 'calendar-old', every: 1500, takes: 100 },
  'notification-reminder': { of: 'calendar-old', every: 600, takes: 80 },
  'token-health-reminder': { of: 'calendar-old', every: 1500, takes: 80 },
  'adaptive-sync': { of: 'calendar-old', every: 1000, takes: 400, burst: 50 },
  'webhook-renewal': { of: 'calendar-old', every: 1500, takes: 120 },
  'suggestion-regeneration': { of: 'calendar', every: 1500, takes: 300, burst: 25 },
  'batch-notifications': { of: 'calendar', every: 800, takes: 200, burst: 50 },
  'suggestion-generation': { of: 'calendar', every: 1000, takes: 300 },
  'token-refresh': { of: 'calendar', every: 500, takes: 60 },
  'calendar-sync': { of: 'calendar', every: 400, takes: 150 },
  'google-contacts-sync': { of: 'calendar', every: 900, takes: 150 },
}
const BURST_EVERY = 40_000
const MESSAGES = 44
const REPORT_EVERY = 20_000

let stopping = false
const started = Date.now()
const left = () => started + seconds * 1000 - Date.now()
const open = []
const added = {}

const queue = (name, application) => {
  const { library, prefix } = APPLICATIONS[application]
  const made = library === 'bull'
    ? new Bull(name, url, { prefix })
    : new bullmq.Queue(name, { prefix, connection: new IORedis(url, { maxRetriesPerRequest: null }) })
  open.push(made)
  return made
}

const add = async (to, name, data, opts) => {
  const job = await to.add(name, { ...data, at: Date.now() }, opts)
  added[to.name] ??= []
  added[to.name].push(String(job.id))
}

// One in twenty has a bad day, one in fifty is refused; a minute before the end all is well, so that retries are over then.
const fate = (n, { takes, fails = 1 }) => {
  const late = left() < 60_000
  if (n % 50 === 7) return { takes, refused: true }
  if (n % 20 === 3 && !late) return { takes, fails: n < 60 ? fails : Math.min(fails, 1) }
  return { takes }
}

// Adds until the end; every `every` ms, whatever adding takes.
const feed = async (name, shape) => {
  const to = queue(name, shape.of)
  let burst = started + BURST_EVERY / 2
  for (let n = 0; !stopping && left() > 0; n += 1) {
    await add(to, 'work', { n, ...fate(n, shape) })
    if (shape.burst && Date.now() > burst && left() > 60_000) {
      burst += BURST_EVERY
      await Promise.all(Array.from({ length: shape.burst }, (_, b) => add(to, 'burst', { n, b, takes: shape.takes })))
    }
    await sleep(Math.max(0, started + (n + 1) * shape.every - Date.now()))
  }
}

// More than may start in two windows, the urgent ones (1) among the rest (10).
const messages = async () => {
  const to = queue('messages', 'crm')
  for (let n = 0; n < MESSAGES && !stopping && left() > 0; n += 1) {
    await add(to, 'send', { n, takes: 400, fails: n % 11 === 5 ? 1 : 0 }, { priority: n % 10 + 1 })
    if (n >= 24) await sleep(1000)
  }
}

// The daily report, with a shorter day.
const analytics = async () => {
  const to = queue('analytics', 'crm')
  const bull = APPLICATIONS.crm.library === 'bull'
  const repeat = { every: REPORT_EVERY }
  const data = { takes: 300 }
  if (bull) await to.add('daily', data, { repeat })
  else await to.upsertJobScheduler('daily', repeat, { name: 'daily', data })
  while (!stopping && left() > 0) await sleep(100)
  if (bull) await to.removeRepeatable('daily', repeat)
  else await to.removeJobScheduler('daily')
}

const main = async () => {
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => { stopping = true })
  await Promise.all([messages(), analytics(), ...Object.entries(QUEUES).map(([name, shape]) => feed(name, shape))])
  console.log(JSON.stringify(added))
  await Promise.all(open.map((one) => one.close()))
  process.exit(0)
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
