// From runs to figures, a table, the bounds, and the files under results/.
'use strict'

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { execFileSync } = require('node:child_process')

/** The worker that the bound on rates is about: most applications post with `fetch`. */
const JUDGE = 'Node, fetch'
const PEERS = [JUDGE, 'Node, http.request']

const median = (list) => {
  const sorted = [...list].sort((one, other) => one - other)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Each figure's median over the rounds, with the lowest and highest rate. */
const summary = (runs) => {
  const of = (key) => runs.map((run) => run[key])
  return {
    jobsPerSecond: median(of('jobsPerSecond')),
    lowest: Math.min(...of('jobsPerSecond')),
    highest: Math.max(...of('jobsPerSecond')),
    workerMicros: median(of('workerMicros')),
    redisMicros: median(of('redisMicros')),
    nginxMicros: median(of('nginxMicros')),
    commandsPerJob: median(of('commandsPerJob')),
  }
}

/** What must hold, and whether it does. */
const bounds = (rows) => rows.filter((row) => row.worker === 'qfleet').flatMap((row) => {
  const most = row.concurrency >= 10 ? 1 : 1.1
  const commands = row.figures.commandsPerJob
  const list = [{
    what: `${row.family}, ${row.concurrency} at once: commands a job ${row.concurrency >= 10 ? 'under 1' : 'at most 1.1'}`,
    is: commands.toFixed(2),
    holds: row.concurrency >= 10 ? commands < most : commands <= most,
  }]
  if (row.concurrency === 100 && row.times?.[JUDGE] && row.family.startsWith('BullMQ')) {
    const what = `${row.family}, 100 at once: at least 3 times the jobs a second of ${JUDGE}`
    list.push({ what, is: row.times[JUDGE].toFixed(1), holds: row.times[JUDGE] >= 3 })
  }
  return list
})

/** How many times the rate of each of Node's workers qfleet reaches, by their names, where both were measured. */
const compare = (rows) => rows.map((row) => {
  if (row.worker !== 'qfleet') return row
  const peers = PEERS.flatMap((name) => rows.filter((other) => (
    other.worker === name && other.family === row.family && other.concurrency === row.concurrency)))
  const times = peers.map((peer) => [peer.worker, row.figures.jobsPerSecond / peer.figures.jobsPerSecond])
  return { ...row, times: Object.fromEntries(times) }
})

const thousands = (number) => Math.round(number).toLocaleString('en-US')

const workTable = (rows) => [
  ['at once', 'jobs', 'worker', 'jobs/s', 'lowest - highest', '× fetch', '× http.request', 'worker µs', 'Redis µs', 'nginx µs', 'commands'],
  ...rows.map(({ concurrency, family, worker, figures, times }) => [
    String(concurrency), family, worker, thousands(figures.jobsPerSecond),
    `${thousands(figures.lowest)} - ${thousands(figures.highest)}`, ...PEERS.map((peer) => times?.[peer]?.toFixed(1) ?? ''),
    thousands(figures.workerMicros), thousands(figures.redisMicros), thousands(figures.nginxMicros), figures.commandsPerJob.toFixed(2),
  ]),
]

const restTable = (rows) => [
  ['jobs', 'worker', 'connections', 'commands a minute'],
  ...rows.map(({ family, worker, connections, commandsPerMinute }) => [
    family, worker, String(connections), String(Math.round(commandsPerMinute)),
  ]),
]

const boundsTable = (list) => [['bound', 'is', 'holds'], ...list.map(({ what, is, holds }) => [what, is, holds ? 'yes' : 'NO'])]

/** A table in Markdown that is also readable as it stands: numbers to the right. */
const table = (rows) => {
  const right = rows[0].map((_, column) => rows.slice(1).every((row) => /^[\d.,\- ]*$/.test(row[column])))
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const line = (row) => `| ${row.map((cell, column) => right[column] ? cell.padStart(widths[column]) : cell.padEnd(widths[column])).join(' | ')} |`
  const rule = `|${widths.map((width, column) => '-'.repeat(width + 1) + (right[column] ? ':' : '-')).join('|')}|`
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join('\n')
}

const said = (command, ...args) => {
  try {
    return execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString().trim()
  } catch {
    return ''
  }
}

/** Where it was measured, and with what. */
const conditions = (binary) => ({
  processor: os.cpus()[0]?.model.trim(),
  cores: os.cpus().length,
  kernel: `${os.type()} ${os.release()}`,
  qfleet: `${said(binary, '--version').split('\n')[0]}, ${said('git', '-C', __dirname, 'describe', '--always', '--dirty')}`,
  node: process.version,
  redis: said('redis-server', '--version').match(/v=(\S+)/)?.[1],
})

/** The result as text. */
const render = (result) => {
  const { conditions: where, load, settings } = result
  return [
    `# ${result.date}`,
    '',
    `${where.processor}, ${where.cores} cores, ${where.kernel}; ${where.qfleet}; Node ${where.node}; Redis ${where.redis}.`,
    `Medians of ${settings.rounds} rounds, each ${settings.seconds} s after ${settings.warmUp} s of warm-up. Load of the machine when it began:`,
    `${load.before.toFixed(2)}; most in between: ${load.most.toFixed(2)} (the measurement itself makes about 2).`,
    '',
    table(workTable(result.work)),
    '',
    `Without work, over ${settings.idle} s:`,
    '',
    table(restTable(result.rest)),
    '',
    table(boundsTable(result.bounds)),
    '',
  ].join('\n')
}

/** Writes both files; gives their common name. */
const write = (result) => {
  const name = path.join(__dirname, 'results', result.date)
  fs.mkdirSync(path.dirname(name), { recursive: true })
  fs.writeFileSync(`${name}.md`, render(result))
  fs.writeFileSync(`${name}.json`, `${JSON.stringify(result, (_, value) => typeof value === 'number' ? Number(value.toPrecision(4)) : value, 1)}\n`)
  return name
}

module.exports = { summary, compare, bounds, conditions, render, write }
