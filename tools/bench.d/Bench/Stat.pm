# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause

package Bench::Stat;

use strict;
use warnings;


# { median =>, min =>, max =>, n => } of numbers.

sub of {
    my @sorted = sort { $a <=> $b } @_;
    my $n = @sorted or return undef;
    my $half = int $n / 2;

    return {
        median => $n % 2 ? $sorted[$half]
                         : ($sorted[$half - 1] + $sorted[$half]) / 2,
        min    => $sorted[0],
        max    => $sorted[-1],
        n      => $n,
    };
}


# of() for each name in a list of hashes.

sub of_all {
    my @rows = @_;
    my %stat;

    for my $name (map { keys %$_ } @rows) {
        $stat{$name} //= of(map { $_->{$name} // () } @rows);
    }

    return \%stat;
}

1;
