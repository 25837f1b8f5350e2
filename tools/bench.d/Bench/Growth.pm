# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What becomes of the figures when there is more of something.

package Bench::Growth;

use strict;
use warnings;

use Bench::Client;
use Bench::Load;
use Bench::Stat;

use constant ROUNDS => 3;


sub say_line { print "agntkey: $_[0]\n" }


# rounds(\@cases, $run): each case has "nginx", which runs; its figures come
# back in "stat".

sub rounds {
    my ($cases, $run) = @_;
    my %rows;

    $run->($_, 1) for @$cases;

    for (1 .. ROUNDS) {
        push @{ $rows{$_} }, $run->($_) for @$cases;
    }

    return [map { {
        %{ $_->{as} }, %{ Bench::Stat::of_all(@{ $rows{$_} }) },
    } } @$cases];
}


# Requests are spread evenly over all keys that are in Redis: with a cache
# that is smaller than that, the worst there is.

sub keys_ {
    my ($setup, %set) = @_;
    my $list = "$setup->{lists}/all";
    my @rows;

    for my $n (@{ $set{keys} }) {
        say_line("growth: $n keys");

        $setup->{keys}->load($setup->{redis}, $n);
        $setup->{keys}->write_list($list, 'key', 0, $n);

        my @caches = ('off');
        push @caches, 'entries=10000' if !$setup->{no_cache};
        push @caches, "entries=$n" if !$setup->{no_cache} && $n > 10_000;

        my @cases = map { {
            as => { keys => $n, cache => $_ },
            nginx => $setup->nginx('growth', cache => $_),
        } } @caches;

        # one at a time: a full cache takes a while to fill
        for my $case (@cases) {
            if (my $said = $case->{nginx}->complaint) {
                say_line("left out, since nginx refuses it: $said");
                next;
            }

            my $nginx = $case->{nginx}->start;

            # once it has answered, a worker has all that it starts with
            Bench::Client->new($nginx->port)->ask(Bench::Client::text(
                '/agntkey', $setup->first_line('good')
            ));
            my $fresh = $nginx->rss;

            my ($row) = @{ rounds([$case], sub {
                return Bench::Load::run(
                    $setup, $nginx, path => '/agntkey', code => 200,
                    list => $list, connections => $set{connections},
                    seconds => $set{seconds},
                );
            }) };

            $row->{fresh_kb} = $fresh;
            $row->{redis_mb} = redis_memory($setup->{redis});
            push @rows, $row;
            $nginx->stop;
        }
    }

    return { rows => \@rows };
}


sub redis_memory {
    my ($redis) = @_;
    my ($bytes) = $redis->cmd('INFO', 'memory') =~ /^used_memory:(\d+)/m;
    return $bytes / 1048576;
}


sub some {
    my ($setup, @ids) = @_;
    return grep { defined } map { $setup->variant($_) } @ids;
}


sub connections {
    my ($setup, %set) = @_;
    my (%nginx, @rows);
    my @variants = some($setup, qw(none lua_redis lua_dict agntkey_off
                                   agntkey_cached));

    for my $variant (@variants) {
        my $cache = $setup->cache_of($variant);
        $nginx{$cache} //= $setup->nginx("growth-" . keys %nginx,
                                         cache => $cache)->start;
    }

    for my $n (1, 32, 512) {
        say_line("growth: $n connections");

        my @cases = map { {
            as => { connections => $n, id => $_->{id},
                    title => $_->{title} },
            variant => $_,
        } } @variants;

        push @rows, @{ rounds(\@cases, sub {
            my ($case, $seconds) = @_;
            my $variant = $case->{variant};

            return Bench::Load::run(
                $setup, $nginx{ $setup->cache_of($variant) },
                path => $variant->{path}, code => $variant->{code},
                list => "$setup->{lists}/$variant->{list}",
                connections => $n, seconds => $seconds // $set{seconds},
            );
        }) };
    }

    $_->stop for values %nginx;
    return { rows => \@rows };
}


# Nobody is kept to a core here: with as many workers as there are cores, wrk
# and Redis take from the workers what they need.

sub workers {
    my ($setup, %set) = @_;
    my @rows;

    for my $n (1, 2) {
        say_line("growth: $n workers");

        for my $variant (some($setup, qw(none lua_redis agntkey_off
                                         agntkey_cached)))
        {
            my $nginx = $setup->nginx(
                'growth', cache => $setup->cache_of($variant),
                workers => $n, core => undef, listen => 'reuseport',
            )->start;

            push @rows, @{ rounds([{
                as => { workers => $n, id => $variant->{id},
                        title => $variant->{title} },
            }], sub {
                return Bench::Load::run(
                    $setup, $nginx, path => $variant->{path}, code => 200,
                    list => "$setup->{lists}/$variant->{list}",
                    connections => $set{connections}, unpinned => 1,
                    seconds => $set{seconds},
                );
            }) };

            $nginx->stop;
        }
    }

    return { rows => \@rows };
}

1;
