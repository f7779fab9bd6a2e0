// Bull Board over queues of one kit, asked what its page asks it, without a server between them.
'use strict'

module.exports = (kit) => {
  const { createBullBoard } = kit.require('@bull-board/api')
  const adapters = kit.library === 'bull'
    ? kit.require('@bull-board/api/bullAdapter').BullAdapter
    : kit.require('@bull-board/api/bullMQAdapter').BullMQAdapter

  // What the board is told of the server it is to run in.
  const told = {}
  const server = new Proxy({}, { get: (_, name) => (value) => ((told[name] = value), server) })

  const fits = (route, path) => {
    const [wanted, given] = [route.split('/'), path.split('/')]
    const params = {}
    const alike = wanted.length === given.length && wanted.every((word, n) => {
      if (word.startsWith(':')) params[word.slice(1)] = decodeURIComponent(given[n])
      return word.startsWith(':') || word === given[n]
    })
    return alike && params
  }

  return {
    open: (names) => {
      createBullBoard({ queues: names.map((name) => new adapters(kit.queue(name))), serverAdapter: server })
    },
    // Gives the body of the answer; throws it when the board refuses.
    ask: async (method, address, body = {}) => {
      const { pathname, searchParams } = new URL(address, 'http://board')
      for (const { method: of, route, handler } of told.setApiRoutes) {
        const params = of === method && fits(route, pathname)
        if (!params) continue
        const query = { page: '1', jobsPerPage: '100', ...Object.fromEntries(searchParams) }
        const answer = await handler({ queues: told.setQueues, uiConfig: {}, query, params, body, headers: {} })
        if ((answer.status ?? 200) >= 300) throw new Error(JSON.stringify(answer))
        return answer.body
      }
      throw new Error(`the board has no \`${method} ${pathname}\``)
    },
  }
}
