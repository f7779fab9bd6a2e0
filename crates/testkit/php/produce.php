<?php

// Pushes jobs as a Laravel application does. Besides the settings of laravel.php:
//
//   kind     what kind of job, see below
//   count    how many
//   value    given to the job as it is (kinds that need one of their own ignore it)
//   delay    seconds, or null for a job that is ready at once

declare(strict_types=1);

require __DIR__.'/laravel.php';

use App\Jobs;

/** Arrays in arrays, `$depth` levels. */
function nested(int $depth): array
{
    $value = ['floor'];
    for ($level = 1; $level < $depth; $level++) {
        $value = [$value];
    }

    return $value;
}

const TEXT = "gr\u{fc}\u{df}e / \u{65e5}\u{672c} \u{1f600} \u{2028} \" \\ \u{0} \u{7f}";
const NUMBERS = [
    'beyond_double' => 9007199254740993,
    'largest' => PHP_INT_MAX,
    'smallest' => PHP_INT_MIN,
    'fifteen_digits' => 123456789012345,
    'one_and_a_half' => 1.5,
    'third' => 0.3333333333333333,
    'empty_list' => [],
    'list_of_empty' => [[], [[]]],
    'attempts' => 7,
];

$settings = settings();
$value = $settings['value'];
$by_name = Jobs\ByName::class.'@fire';
[$job, $data] = match ($settings['kind']) {
    'plain' => [new Jobs\Plain($value), ''],
    'options' => [new Jobs\WithOptions($value), ''],
    'retry-until' => [new Jobs\RetryUntil($value), ''],
    'secrets' => [new Jobs\WithSecrets($value), ''],
    'unicode' => [new Jobs\Plain(TEXT), ''],
    'throwing' => [new Jobs\Throwing($value), ''],
    'slow' => [new Jobs\Slow($value), ''],
    'releasing' => [new Jobs\Releasing($value), ''],
    'by-name' => [$by_name, $value],
    'numbers' => [$by_name, NUMBERS],
    'unicode-by-name' => [$by_name, ['text' => TEXT, TEXT => []]],
    'deep' => [$by_name, nested(300)],
};

$queue = application()['queue']->connection();
for ($pushed = 0; $pushed < $settings['count']; $pushed++) {
    if ($settings['delay'] === null) {
        $queue->push($job, $data, $settings['queue']);
    } else {
        $queue->later($settings['delay'], $job, $data, $settings['queue']);
    }
}
