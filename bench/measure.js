// What is measured of one worker, and how. Every number is a difference between two looks from outside; the worker is
// not asked and does not know.
'use strict'

const fs = require('node:fs')
const { execFileSync } = require('node:child_process')
const { QUEUE } = require('./contestants')
const { eventually, sleep } = require('./servers')

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK']))
/** What `look` itself sends between two measurements of the counters. */
const OWN = { multi: 1, time: 1, llen: 2, info: 1, exec: 1 }
/** Jobs done before a measurement, at least: Node's compiler needs some thousands of calls to know what is worth its while. */
const WARM_UP_JOBS = 5000

/** Processor time of a process with all its threads, in seconds. */
const processorTime = (pid) => {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Calls by command as Redis counts them, subcommands together. */
const callsOf = (info) => {
  const calls = {}
  for (const [, name, count] of info.matchAll(/^cmdstat_([^|:\s]+)[^:]*:calls=(\d+)/gm)) {
    calls[name] = (calls[name] ?? 0) + Number(count)
  }
  return calls
}

/** All counters at one moment. */
const look = async ({ redis, nginx, pids }) => {
  const answers = await redis.client.multi()
    .time().llen(`bull:${QUEUE}:wait`).llen(`bull:${QUEUE}:active`).info('commandstats').exec()
  const [[, [seconds, micros]], [, waiting], [, active], [, info]] = answers
  return {
    at: Number(seconds) + Number(micros) / 1e6,
    waiting,
    left: waiting + active,
    calls: callsOf(info),
    worker: pids.reduce((sum, pid) => sum + processorTime(pid), 0),
    redis: processorTime(redis.pid),
    nginx: processorTime(nginx.pid),
  }
}

/** Names of the commands that a worker sends itself, and of those its scripts call, heard with MONITOR. */
const listen = async (redis) => {
  const monitor = await redis.client.duplicate().monitor()
  const own = `${redis.client.stream.localAddress}:${redis.client.stream.localPort}`
  const heard = { sent: new Map(), inScripts: new Set(), since: 0 }
  monitor.on('monitor', (_time, [command], source) => {
    const name = command.toLowerCase()
    if (source === 'lua') heard.inScripts.add(name)
    else if (source !== own) {
      heard.sent.set(name, (heard.sent.get(name) ?? 0) + 1)
      heard.since += 1
    }
  })
  heard.stop = () => monitor.disconnect()
  return heard
}

/**
 * Lets a worker do a few jobs and then nothing, on a Redis of its own: which commands it sends, and how many of them and
 * how many connections it needs without work.
 */
const atRest = async (place, { redis, url, worker, label, settle, seconds }) => {
  const heard = await listen(redis)
  const started = await worker.start(place, { redisPort: redis.port, url, concurrency: 10, label })
  await eventually(`${label} to do its first jobs`, async () => {
    started.check()
    const [waiting, active] = await Promise.all(['wait', 'active'].map((list) => redis.client.llen(`bull:${QUEUE}:${list}`)))
    return waiting + active === 0
  })
  await sleep(settle * 1000)
  heard.since = 0
  await sleep(seconds * 1000)
  const commands = heard.since
  // All but the monitor and the client that asks.
  const connections = (await redis.client.client('LIST')).trim().split('\n').length - 2
  await started.stop()
  heard.stop()
  return {
    commandsPerMinute: commands * 60 / seconds,
    connections,
    sent: [...heard.sent.keys()].sort(),
    inScripts: [...heard.inScripts].sort(),
  }
}

/** Lets a worker work for a while and measures a window of that. `sends` are the commands that it sends itself. */
const atWork = async (place, { redis, nginx, worker, label, concurrency, jobs, warmUp, seconds, sends }) => {
  const before = await nginx.requests()
  const started = await worker.start(place, { redisPort: redis.port, url: nginx.url, concurrency, label })
  const seen = { redis, nginx, pids: started.pids }
  const done = async (count) => {
    started.check()
    return (await redis.client.llen(`bull:${QUEUE}:wait`)) <= jobs - count
  }
  await eventually(`${label} to begin`, () => done(1))
  await sleep(warmUp * 1000)
  await eventually(`${label} to warm up`, () => done(WARM_UP_JOBS), 120_000)
  const first = await look(seen)
  await sleep(seconds * 1000)
  const last = await look(seen)
  if (last.waiting === 0) throw new Error(`${label} had nothing left to do; give it more than \`--jobs ${jobs}\``)
  await started.stop()

  // Bull leaves jobs in `active` at times that it fetched and did not start before its end.
  const [left, stranded] = await Promise.all(['wait', 'active'].map((list) => redis.client.llen(`bull:${QUEUE}:${list}`)))
  const requests = await nginx.requests() - before
  const most = jobs - left
  if (requests > most || requests < most - stranded) {
    throw new Error(`${label} made ${requests} requests for ${most} jobs, of which ${stranded} are still active`)
  }
  const count = first.left - last.left
  const sent = sends.reduce((sum, name) => sum + (last.calls[name] ?? 0) - (first.calls[name] ?? 0) - (OWN[name] ?? 0), 0)
  const micros = (whose) => (last[whose] - first[whose]) * 1e6 / count
  return {
    jobsPerSecond: count / (last.at - first.at),
    workerMicros: micros('worker'),
    redisMicros: micros('redis'),
    nginxMicros: micros('nginx'),
    commandsPerJob: sent / count,
  }
}

module.exports = { atRest, atWork }
