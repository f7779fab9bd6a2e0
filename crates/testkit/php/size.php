<?php

// Prints how many jobs Laravel counts in a queue: waiting, delayed and reserved together.

declare(strict_types=1);

require __DIR__.'/laravel.php';

echo application()['queue']->connection()->size(settings()['queue']), "\n";
