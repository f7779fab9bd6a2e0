// Measures Node's workers and qfleet side by side, as README.md says. usage: node run.js QFLEET [options]
'use strict'

const os = require('node:os')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { families, produce } = require('./contestants')
const { atRest, atWork } = require('./measure')
const { Place, startNginx, startRedis } = require('./servers')
const report = require('./report')

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    'warm-up': { type: 'string', default: '2' },
    idle: { type: 'string', default: '60' },
    jobs: { type: 'string', default: '120000' },
    at: { type: 'string', default: '1,10,100' },
    only: { type: 'string', default: 'bullmq,bullmq6,bull' },
    workers: { type: 'string', default: 'fetch,http,qfleet' },
    'no-results': { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) {
  console.error('usage: node run.js QFLEET [--rounds N] [--seconds N] [--warm-up N] [--idle N] [--jobs N] [--at 1,10,100] [--only bullmq,bullmq6,bull] [--workers fetch,http,qfleet] [--no-results]')
  process.exit(2)
}
const settings = {
  rounds: Number(values.rounds), seconds: Number(values.seconds), warmUp: Number(values['warm-up']),
  idle: Number(values.idle), jobs: Number(values.jobs),
}
const concurrencies = values.at.split(',').map(Number)
const binary = path.resolve(positionals[0])
const chosen = (list, name) => list.split(',').includes(name)
const wanted = families(binary).filter((family) => chosen(values.only, family.id))
  .map((family) => ({ ...family, workers: family.workers.filter((worker) => chosen(values.workers, worker.id)) }))
const load = { before: os.loadavg()[0], most: 0 }
const QUIET = 0.5
const say = (text) => process.stderr.write(`${text}\n`)

/** Every worker at rest, all at the same time, each with a Redis of its own: that costs one minute instead of nine. */
const restOfAll = (place, nginx) => Promise.all(wanted.flatMap((family) => family.workers.map(async (worker) => {
  const label = `${family.id}-${worker.id}-idle`
  const redis = await startRedis(place, `redis-${label}`)
  await produce(family.id, redis.port, 300)
  const figures = await atRest(place, { redis, url: nginx.url, worker, label, settle: 5, seconds: settings.idle })
  await redis.stop()
  return { family: family.title, id: family.id, worker: worker.name, ...figures }
})))

/** Every worker at every concurrency, round by round, so that whatever else the machine does hits all alike. */
const workOfAll = async (place, nginx, rest) => {
  const redis = await startRedis(place, 'redis')
  for (const family of wanted) {
    say(`${family.title}: writing ${settings.jobs} jobs`)
    await redis.client.flushall()
    await produce(family.id, redis.port, settings.jobs)
    await redis.save(`${family.id}.rdb`)
  }
  const runs = new Map()
  for (let round = 1; round <= settings.rounds; round += 1) {
    for (const concurrency of concurrencies) {
      for (const family of wanted) {
        const order = round % 2 ? family.workers : [...family.workers].reverse()
        for (const worker of order) {
          const key = [concurrency, family.id, worker.name].join()
          const { sent: sends } = rest.find((row) => row.id === family.id && row.worker === worker.name)
          await redis.load(`${family.id}.rdb`)
          const label = `${family.id}-${worker.id}-${concurrency}-${round}`
          const figures = await atWork(place, { redis, nginx, worker, label, concurrency, sends, ...settings })
          runs.set(key, [...(runs.get(key) ?? []), figures])
          load.most = Math.max(load.most, os.loadavg()[0])
          say(`round ${round}, ${concurrency} at once, ${family.title}, ${worker.name}: ${Math.round(figures.jobsPerSecond)} jobs/s`)
        }
      }
    }
  }
  await redis.stop()
  return report.compare(concurrencies.flatMap((concurrency) => wanted.flatMap((family) => family.workers.map((worker) => ({
    concurrency,
    family: family.title,
    worker: worker.name,
    figures: report.summary(runs.get([concurrency, family.id, worker.name].join())),
    runs: runs.get([concurrency, family.id, worker.name].join()),
  })))))
}

const main = async () => {
  if (load.before > QUIET) say(`this machine has a load of ${load.before.toFixed(1)} already: rates will be wrong, processor times less so`)
  const place = new Place()
  const nginx = await startNginx(place)
  say(`at rest: ${settings.idle} s`)
  const rest = await restOfAll(place, nginx)
  const work = await workOfAll(place, nginx, rest)
  await nginx.stop()
  const date = new Date().toISOString().slice(0, 10)
  const conditions = report.conditions(binary)
  const result = { date, conditions, settings, load, work, rest, bounds: report.bounds(work) }
  console.log(report.render(result))
  if (!values['no-results']) say(`written: ${report.write(result)}.md and .json`)
  return result.bounds.every(({ holds }) => holds) ? 0 : 1
}

main().then((code) => process.exit(code), (error) => {
  console.error(error)
  process.exit(1)
})
