<?php

// The jobs of the test application. Each notes what it was given, so that a test can see that nothing was lost on the way.

namespace App\Jobs;

use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\Job;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Queue\InteractsWithQueue;

/** The value goes as text, since readers of JSON differ in what numbers and depths they can take. */
function note(Job $job, mixed $value): void
{
    $text = json_encode($value, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
    \record(['event' => 'ran', 'id' => $job->getJobId(), 'attempts' => $job->attempts(), 'class' => $job->resolveName(),
        'raw' => bin2hex($job->getRawBody()), 'value' => $text]);
}

class Plain implements ShouldQueue
{
    use InteractsWithQueue;
    use Queueable;

    public function __construct(public mixed $value)
    {
    }

    public function handle(): void
    {
        note($this->job, $this->value);
    }
}

class WithOptions extends Plain
{
    public $tries = 5;
    public $maxExceptions = 3;
    public $timeout = 7;
    public $failOnTimeout = true;
    public $backoff = [1, 5, 10];
}

class RetryUntil extends Plain
{
    public function retryUntil(): \DateTimeInterface
    {
        return new \DateTimeImmutable('+10 minutes');
    }
}

/** Private and protected properties put NUL bytes into the serialised text. */
class WithSecrets extends Plain
{
    protected array $list = [];
    private int $large = PHP_INT_MAX;

    public function handle(): void
    {
        $this->value = ['value' => $this->value, 'list' => $this->list, 'large' => $this->large];
        parent::handle();
    }
}

class Throwing extends Plain
{
    public function handle(): void
    {
        parent::handle();
        throw new \RuntimeException('this job always throws');
    }
}

/** `value` is the number of seconds it takes. */
class Slow extends Plain
{
    public function handle(): void
    {
        parent::handle();
        $until = microtime(true) + $this->value;
        while (($left = $until - microtime(true)) > 0) {
            usleep((int) ($left * 1e6));
        }
    }
}

/** Goes back into the queue, to be tried again after `value` seconds. */
class Releasing extends Plain
{
    public function handle(): void
    {
        parent::handle();
        $this->release($this->value);
    }
}

/** A handler named by a string: its data is plain JSON. */
class ByName
{
    public function fire(Job $job, mixed $data): void
    {
        note($job, $data);
        $job->delete();
    }
}
