# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# User-space instructions for one request: callgrind counts a series of
# requests on one keepalive connection and then a longer one; the difference
# has nothing in it that is not done for each request.

package Bench::Instructions;

use strict;
use warnings;

use Bench::Client;

use constant WARM => 2000;      # LuaJIT has compiled what it will
use constant SHORT => 200;
use constant LONG => 600;


# count($setup, $variant, $times): as many counts.

sub count {
    my ($setup, $variant, $times) = @_;
    my $file = "$setup->{dir}/callgrind.out";

    unlink glob "$file*";

    my $nginx = $setup->nginx(
        'callgrind', master => 'off', cache => $setup->cache_of($variant),
        under => ['valgrind', '--tool=callgrind',
                  "--callgrind-out-file=$file"],
    )->start;

    my $client = Bench::Client->new($nginx->port);
    my $text = Bench::Client::text($variant->{path},
                                   $setup->first_line($variant->{list}));

    my $series = sub {
        for (1 .. $_[0]) {
            my $code = $client->ask($text);
            die "$variant->{title}: $code\n" if $code ne $variant->{code};
        }
    };

    $series->(WARM);
    dump_counts($nginx);

    my @counts;

    for (1 .. $times) {
        my @sum = map {
            $series->($_);
            my $n = dump_counts($nginx);
            total("$file.$n");
        } SHORT, LONG;

        push @counts, ($sum[1] - $sum[0]) / (LONG - SHORT);
    }

    $nginx->stop('QUIT');
    return @counts;
}


# The counts so far go to the file with the number that is returned, and
# begin anew.

sub dump_counts {
    my ($nginx) = @_;
    my $said = qx{callgrind_control -d $nginx->{pid} 2>&1};

    die "callgrind_control:\n$said" if $? != 0 || $said !~ /\bOK\b/;
    return ++$nginx->{dumps};
}


sub total {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    my ($sum) = map { /^summary: (\d+)/ ? $1 : () } <$in>;
    return $sum // die "$file has no summary\n";
}

1;
