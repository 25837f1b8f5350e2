# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# One revocation, followed through two workers in the debug log: who asks, who
# is asked, in which order, and by which numbers.  No key is in it.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use Test::More;

my $version = qx{@{[Agntkey::Nginx::binary()]} -V 2>&1};

plan skip_all => 'this nginx has no debug log'
    if $version !~ /--with-debug\b/;

redis_start();
redis_empty();
seed_key('one');

my $nginx = Agntkey::Nginx->new(
    workers => 2, log_level => 'debug',
    cached(cache => 'entries=100 lease=20s'))->start;
my %worker = worker_clients($nginx);

ok(hit_everywhere(\%worker, 'one'), 'a hit in both workers');

my $id = key_id(key_for('one'));
my ($asker) = sort keys %worker;
my ($other) = grep { $_ != $asker } keys %worker;

# Those of ours at this level, which other suites leave out.
sub traced {
    my ($match) = @_;

    open my $in, '<', $nginx->log_file or die $nginx->log_file, ": $!\n";
    return grep { /\[debug\] .*\bagntkey\b/ && /$match/ } <$in>;
}

my $before = traced(qr/./);
my $res = revoke('one', client => $worker{$asker});

is($res->{code}, 200, 'revoked') or diag($res->{raw});
is($res->{json}{receipt}{acknowledged}, 2, 'and acknowledged by both');
ok(wait_until(10, sub { traced(qr/agntkey admin call is done: 0/) }),
   'the last line is there');

my @lines = traced(qr/./);
splice @lines, 0, $before;

# Those of one process, in order.
sub lines_of {
    my ($pid) = @_;
    return grep { / \Q$pid\E#\d+: / } @lines;
}

# Each pattern matches a line behind that of the one before; the first group of
# one is what "%s" stands for in those that follow.
sub in_order {
    my ($title, $pid, @patterns) = @_;
    my @left = lines_of($pid);
    my $found = '';

    for my $pattern (@patterns) {
        my $text = $pattern =~ s/%s/\Q$found\E/gr;
        my $skipped = '';

        while (@left && $left[0] !~ /$text/) {
            $skipped .= shift @left;
        }

        my $line = shift @left // '';

        ok($line ne '', "$title: $text") or return diag($skipped);
        $found = $1 if $line =~ /$text/ && defined $1;
    }

    return $found;
}

my $record = quotemeta record_of('one');

my $number = in_order('the one who is asked by the administrator', $asker,
    'agntkey admin handler: POST /agntkey/keys/' . $id . '/revoke',
    'agntkey revocation, kind \d: written, 0',
    "agntkey forgets key $id",
    'agntkey barrier (\d+) of worker [0-9a-f]{16}',
    "agntkey barrier %s: $record",
    'agntkey barrier %s: the record, 0',
    'agntkey barrier %s: the registry, 0',
    'agntkey barrier %s: 2 workers hold a lease',
    'agntkey barrier %s: done, 0, 2 of 2 workers',
    'agntkey revocation, kind \d: done, 0',
    'agntkey admin call is done: 0',
);

in_order('the other worker', $other,
    "agntkey forgets key $id",
    "agntkey barrier asked: agntkey:worker:[0-9a-f]{16} $number\$",
    "agntkey message: echo agntkey:worker:[0-9a-f]{16} $number\$",
);

# Who has acknowledged are the two, each by its own name.
my %name = map {
    my ($line) = reverse traced(qr/ $_#\d+: .*lease of/);
    ($line // '') =~ /lease of ([0-9a-f]{16})/ ? ($1 => $_) : ();
} $asker, $other;
my @acknowledged = map { /acknowledged by ([0-9a-f]{16})/ ? $1 : () }
                   lines_of($asker);

is(join(' ', sort map { $name{$_} // '?' } @acknowledged),
   join(' ', sort $asker, $other), 'both by the names of their leases');

is(said(ask_worker($worker{$other}, 'one')), '401 revoked MISS',
   'and the other refuses the key');
ok(wait_until(5, sub { traced(qr/ $other#\d+: .*agntkey access: revoked/) }),
   'which its log says');

my $key = key_for('one');
my $secret = substr $key, -38;

is(scalar(traced(qr/\Q$secret\E/)), 0, 'no line of ours has the key');
ok(defined $nginx->quit, 'quit');

done_testing();
