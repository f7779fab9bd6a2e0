<?php

// A Laravel application reduced to what queues need: container, configuration, events, bus, Redis and queue manager, wired as
// the framework's service providers would. Settings are one JSON object on standard input, so that no password is in the
// command line:
//
//   host, port         of Redis; a host that starts with a slash is a unix socket
//   username, password
//   prefix             of every key
//   retry_after, block_for
//   queue              the queue in question
//   record             file that gets one JSON object per line: what was pushed, what happened to jobs

declare(strict_types=1);

error_reporting(E_ALL & ~E_DEPRECATED);
ini_set('display_errors', 'stderr');

require '/usr/share/php/Illuminate/autoload.php';
require __DIR__.'/jobs.php';

use Illuminate\Bus\Dispatcher as Bus;
use Illuminate\Config\Repository;
use Illuminate\Container\Container;
use Illuminate\Contracts\Bus\Dispatcher as BusContract;
use Illuminate\Contracts\Container\Container as ContainerContract;
use Illuminate\Contracts\Events\Dispatcher as EventsContract;
use Illuminate\Events\Dispatcher as Events;
use Illuminate\Queue\Connectors\RedisConnector;
use Illuminate\Queue\QueueManager;
use Illuminate\Queue\RedisQueue;
use Illuminate\Redis\RedisManager;

function settings(): array
{
    static $settings = null;

    return $settings ??= json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
}

/** Appends one line to the record. Whole or not at all, unless we are killed in the middle. */
function record(array $line): void
{
    file_put_contents(settings()['record'], json_encode($line, JSON_THROW_ON_ERROR)."\n", FILE_APPEND);
}

/** The real queue, which also notes the exact text it is about to push. */
final class NotingQueue extends RedisQueue
{
    public function pushRaw($payload, $queue = null, array $options = [])
    {
        record(['event' => 'pushed', 'raw' => bin2hex($payload), 'delay' => null]);

        return parent::pushRaw($payload, $queue, $options);
    }

    protected function laterRaw($delay, $payload, $queue = null)
    {
        record(['event' => 'pushed', 'raw' => bin2hex($payload), 'delay' => $this->secondsUntil($delay)]);

        return parent::laterRaw($delay, $payload, $queue);
    }
}

final class NotingConnector extends RedisConnector
{
    public function connect(array $config)
    {
        return new NotingQueue($this->redis, $config['queue'], $config['connection'], $config['retry_after'], $config['block_for']);
    }
}

function application(): Container
{
    $settings = settings();
    $app = new Container();
    Container::setInstance($app);
    $app->instance(ContainerContract::class, $app);

    $app->instance('config', new Repository(['queue' => [
        'default' => 'redis',
        'connections' => ['redis' => [
            'driver' => 'redis',
            'connection' => 'default',
            'queue' => 'default',
            'retry_after' => $settings['retry_after'],
            'block_for' => $settings['block_for'],
        ]],
    ]]));
    $app->instance('redis', new RedisManager($app, 'phpredis', [
        'options' => ['prefix' => $settings['prefix']],
        'default' => [
            'host' => $settings['host'],
            'port' => $settings['port'],
            'username' => $settings['username'],
            'password' => $settings['password'],
            'database' => 0,
        ],
    ]));
    $app->singleton('events', fn () => new Events($app));
    $app->alias('events', EventsContract::class);
    $app->singleton(BusContract::class, fn () => new Bus($app));
    $app->singleton('queue', function () use ($app) {
        $manager = new QueueManager($app);
        $manager->addConnector('redis', fn () => new NotingConnector($app['redis']));

        return $manager;
    });

    return $app;
}
