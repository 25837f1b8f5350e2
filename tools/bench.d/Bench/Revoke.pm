# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A key is revoked while every worker of every host is asked for it again and
# again. When does the call answer, and when has the last worker let it in?

package Bench::Revoke;

use strict;
use warnings;

use IO::Select;
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

use Bench::Client;
use Bench::Stat;


sub now { return 1000 * clock_gettime(CLOCK_MONOTONIC) }


# Rows for each number of hosts and workers, times in ms.

sub run {
    my ($setup, %set) = @_;
    my @rows;

    for my $hosts (1, 2) {
        for my $workers (1, 2, 4) {
            print "agntkey: revocations, hosts: $hosts, "
                  . "workers of each: $workers\n";

            my @nginx = map {
                $setup->nginx(
                    "host-$_", workers => $workers, core => undef,
                    listen => 'reuseport',
                    cache => $setup->{no_cache} ? 'off' : 'entries=10000',
                )->start;
            } 1 .. $hosts;

            my @clients = map { one_for_each_worker($setup, $_) } @nginx;
            my @times = map { revoke($setup, $nginx[0], @clients) }
                        1 .. $set{revokes};

            push @rows, { hosts => $hosts, workers => $workers,
                          %{ Bench::Stat::of_all(@times) } };
            $_->stop for @nginx;
        }
    }

    return { rows => \@rows };
}


# Which worker takes a connection is chance.

sub one_for_each_worker {
    my ($setup, $nginx) = @_;
    my $text = Bench::Client::text('/pid', $setup->first_line('good'));
    my $n = $nginx->workers;
    my %client;

    for (1 .. 1000) {
        my $client = Bench::Client->new($nginx->port);

        $client->ask($text);
        my ($pid) = $client->{answer} =~ /^X-Pid: (\d+)/m;
        $client{$pid} //= $client;

        return values %client if keys %client == $n;
    }

    die "not every worker can be reached\n";
}


sub revoke {
    my ($setup, $nginx, @clients) = @_;
    my $key = $setup->{keys}->key(my $i = 1_000_000_000 + $setup->{revoked}++);
    my $text = Bench::Client::text('/pid', "Bearer $key");

    $setup->{redis}->cmd(@{ $setup->{keys}->command($i) });

    # twice, so that it is in every cache
    for my $client (@clients, @clients) {
        my $code = $client->ask($text);
        die "$code for a good key\n" if $code ne '200';
    }

    my $admin = Bench::Client->new($nginx->port);
    my $ready = IO::Select->new($admin->sock);
    my ($answered, $accepted, %refused);
    my $started = now();

    $admin->send(Bench::Client::text('/admin/keys/' . substr($key, 5, 12)
                                     . '/revoke', '', 'POST'));

    until (defined $answered && keys %refused == @clients) {
        for my $client (@clients) {
            if (!defined $answered && $ready->can_read(0)) {
                my $code = $admin->receive;
                $answered = now();
                die "revoke: $admin->{answer}\n" if $code ne '200';
            }

            my $sent = now();
            my $code = $client->ask($text);

            if ($code eq '200') {
                die "accepted after the revocation was answered\n"
                    if defined $answered && $sent > $answered;
                $accepted = $sent;

            } elsif ($code eq '401') {
                $refused{$client} //= now();

            } else {
                die "$code while a key is revoked\n";
            }
        }
    }

    my ($last) = sort { $b <=> $a } values %refused;
    my ($took) = $admin->{answer} =~ /"took_ms":(\d+)/;

    return {
        answer  => $answered - $started,
        accept  => defined $accepted ? $accepted - $started : 0,
        refusal => $last - $started,
        defined $took ? (took => $took) : (),
    };
}

1;
