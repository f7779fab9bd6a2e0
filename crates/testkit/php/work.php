<?php

// Works a queue with Laravel's own worker until it is empty, or until told to stop. Besides the settings of laravel.php:
//
//   tries, timeout, backoff, sleep, max_jobs    as the options of `queue:work`
//   stop_when_empty
//
// The record gets `started`, `processed`, `threw` and `failed` for each job; jobs add `ran`.

declare(strict_types=1);

require __DIR__.'/laravel.php';

use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Queue\Events;
use Illuminate\Queue\Worker;
use Illuminate\Queue\WorkerOptions;

/** Failures are told by the worker's events; the text is for a reader of the output. */
final class Reporter implements ExceptionHandler
{
    public function report(Throwable $e)
    {
        fwrite(STDERR, get_class($e).': '.$e->getMessage()."\n");
    }

    public function shouldReport(Throwable $e)
    {
        return true;
    }

    public function render($request, Throwable $e)
    {
        throw $e;
    }

    public function renderForConsole($output, Throwable $e)
    {
        throw $e;
    }
}

$settings = settings();
$app = application();
$names = [
    Events\JobProcessing::class => 'started',
    Events\JobProcessed::class => 'processed',
    Events\JobExceptionOccurred::class => 'threw',
    Events\JobFailed::class => 'failed',
];
foreach ($names as $class => $name) {
    $app['events']->listen($class, fn ($event) => record([
        'event' => $name,
        'id' => $event->job->getJobId(),
        'attempts' => $event->job->attempts(),
        'class' => $event->job->resolveName(),
        'raw' => bin2hex($event->job->getRawBody()),
    ]));
}

$options = new WorkerOptions(
    backoff: $settings['backoff'],
    timeout: $settings['timeout'],
    sleep: $settings['sleep'],
    maxTries: $settings['tries'],
    stopWhenEmpty: $settings['stop_when_empty'],
    maxJobs: $settings['max_jobs'],
);
$worker = new Worker($app['queue'], $app['events'], new Reporter(), fn () => false);
exit($worker->daemon('redis', $settings['queue'], $options));
