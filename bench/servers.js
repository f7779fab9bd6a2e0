// The servers of a measurement: redis-server and nginx on free ports of the loopback interface, everything they write in
// one scratch directory, all of it gone at the end.
'use strict'

const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { spawn } = require('node:child_process')
const Redis = require('ioredis')

const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

/** Asks `probe` until it gives something; fails after `limit` ms. */
const eventually = async (what, probe, limit = 30_000) => {
  const end = Date.now() + limit
  for (;;) {
    const value = await probe()
    if (value) return value
    if (Date.now() > end) throw new Error(`waited ${limit} ms in vain for ${what}`)
    await sleep(5)
  }
}

const freePort = () => new Promise((done, failed) => {
  const server = net.createServer()
  server.once('error', failed)
  server.listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => done(port))
  })
})

/** A scratch directory and the children that live in it. */
class Place {
  constructor() {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'qfleet-bench-'))
    this.children = new Set()
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      process.once(signal, () => {
        this.clear()
        process.exit(130)
      })
    }
    process.once('exit', () => this.clear())
  }

  write(name, text) {
    const file = path.join(this.dir, name)
    fs.writeFileSync(file, text)
    return file
  }

  /** Starts a child that writes to `NAME.log`; gives it with a promise of its end. */
  spawn(name, command, args) {
    const log = fs.openSync(path.join(this.dir, `${name}.log`), 'a')
    const child = spawn(command, args, {
      cwd: this.dir, env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }, stdio: ['ignore', log, log],
    })
    fs.closeSync(log)
    this.children.add(child)
    child.ended = new Promise((done) => {
      child.once('error', (error) => done(error.message))
      child.once('exit', (code, signal) => {
        this.children.delete(child)
        done(signal || code)
      })
    })
    return child
  }

  log(name) {
    return fs.readFileSync(path.join(this.dir, `${name}.log`), 'utf8')
  }

  clear() {
    for (const child of this.children) child.kill('SIGKILL')
    fs.rmSync(this.dir, { recursive: true, force: true })
  }
}

/** A redis-server without persistence; `load` brings back a set of jobs that `save` kept, byte for byte. */
const startRedis = async (place, name) => {
  const port = await freePort()
  const child = place.spawn(name, 'redis-server', [
    '--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', place.dir,
    '--enable-debug-command', 'local', '--enable-protected-configs', 'local', '--loglevel', 'warning',
  ].map(String))
  const client = new Redis(port, '127.0.0.1', { lazyConnect: true, retryStrategy: () => 20, maxRetriesPerRequest: null })
  client.on('error', () => {})
  await client.connect().catch(() => {})
  await client.ping()
  return {
    name,
    port,
    pid: child.pid,
    client,
    save: async (file) => {
      await client.config('SET', 'dbfilename', file)
      await client.save()
    },
    load: async (file) => {
      await client.config('SET', 'dbfilename', file)
      await client.call('DEBUG', 'RELOAD', 'NOSAVE')
    },
    stop: async () => {
      client.disconnect()
      child.kill('SIGTERM')
      await child.ended
    },
  }
}

/** An nginx that answers 204 to everything, and knows how many requests it had; `pid` is its one working process. */
const startNginx = async (place) => {
  const port = await freePort()
  const conf = place.write('nginx.conf', `
daemon off; worker_processes 1; pid ${place.dir}/nginx.pid; error_log ${place.dir}/nginx.error.log;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path ${place.dir}/body; proxy_temp_path ${place.dir}/proxy;
  fastcgi_temp_path ${place.dir}/fastcgi; uwsgi_temp_path ${place.dir}/uwsgi; scgi_temp_path ${place.dir}/scgi;
  keepalive_requests 1000000000; keepalive_timeout 300s;
  server {
    listen 127.0.0.1:${port};
    location / { return 204; }
    location = /status { stub_status; }
  }
}
`)
  const child = place.spawn('nginx', 'nginx', ['-c', conf, '-e', `${place.dir}/nginx.error.log`])
  const url = `http://127.0.0.1:${port}/`
  let looks = 0
  const requests = async () => {
    const text = await (await fetch(`${url}status`)).text()
    // The look counts itself.
    looks += 1
    return Number(text.match(/^\s*\d+ \d+ (\d+)/m)[1]) - looks
  }
  await eventually('nginx', () => requests().then(() => true, () => false))
  const [pid] = fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ').map(Number)
  return {
    pid,
    url: `${url}jobs`,
    requests,
    stop: async () => {
      child.kill('SIGTERM')
      await child.ended
    },
  }
}

module.exports = { Place, startRedis, startNginx, eventually, sleep }
