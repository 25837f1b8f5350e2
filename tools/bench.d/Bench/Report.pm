# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Figures, kept in a file of JSON, and tables made of them: for a terminal
# and for docs/performance.md. "a (b..c)" is the median, the least, the most.

package Bench::Report;

use strict;
use warnings;

use JSON::PP ();
use POSIX ();

my $json = JSON::PP->new->canonical->pretty;

# of a part: what is in its rows, and how it is told

my %tables = (
    compare => {
        title => 'Side by side',
        rows  => \&compare_rows,
        heads => ['variant', 'requests/s', 'of no check', 'CPU, µs',
                  'p50, ms', 'p99, ms', 'Redis commands', 'instructions',
                  'worker busy'],
        notes => "For one request: CPU of the worker with its system "
                 . "calls, commands to Redis, and\ninstructions in user "
                 . "space. Where the worker was not busy all the time, wrk,\n"
                 . "Redis or somebody else was the limit: compare the CPU "
                 . "there.\n",
    },
    instructions => {
        title => 'User-space instructions for one request',
        rows  => \&instructions_rows,
        heads => ['variant', 'instructions', 'above no check'],
    },
    keys => {
        title => 'More keys',
        rows  => \&keys_rows,
        heads => ['keys', 'agntkey_cache', 'requests/s', 'p99, ms',
                  'Redis commands', 'worker, MB', 'grown by, MB',
                  'Redis, MB'],
    },
    connections => {
        title => 'More connections',
        rows  => \&connections_rows,
        heads => ['connections', 'variant', 'requests/s', 'p50, ms',
                  'p99, ms', 'worker, MB'],
    },
    workers => {
        title => 'More workers, nobody kept to a core',
        rows  => \&workers_rows,
        heads => ['workers', 'variant', 'requests/s', 'CPU, µs', 'p99, ms'],
    },
    revoke => {
        title => 'Revocation, ms after the call was sent',
        rows  => \&revoke_rows,
        heads => ['hosts', 'workers of each', 'answered',
                  'last accepted request sent', 'every worker has refused'],
    },
);

my @order = qw(compare instructions connections workers revoke keys);


sub new {
    my ($class, $file) = @_;
    my $self = bless { file => $file, data => {} }, $class;

    if (open my $in, '<', $file) {
        local $/;
        $self->{data} = eval { $json->decode(<$in>) } // {};
    }

    return $self;
}


sub get { return $_[0]{data}{ $_[1] } }


# Kept at once: a part that fails takes none of the others with it.

sub set {
    my ($self, $part, $figures, $settings, $setup) = @_;

    $self->{data}{$part} = {
        %$figures,
        settings => $settings,
        machine  => machine($setup),
        measured => POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime),
        notes    => $setup->{notes},
    };

    open my $out, '>', "$self->{file}.new" or die "$self->{file}: $!\n";
    print $out $json->encode($self->{data});
    close $out or die "$self->{file}: $!\n";
    rename "$self->{file}.new", $self->{file} or die "$self->{file}: $!\n";
}


sub machine {
    my ($setup) = @_;
    my $cpu = 'unknown';

    if (open my $in, '<', '/proc/cpuinfo') {
        ($cpu) = map { /^model name\s*:\s*(.*)/ ? $1 : () } <$in>;
    }

    my ($nginx) = qx{@{[Bench::Nginx::binary()]} -v 2>&1} =~ m{nginx/(\S+)};
    my ($redis) = $setup->{redis}->cmd('INFO', 'server')
                  =~ /^redis_version:(\S+)/m;
    my ($system, undef, $release, undef, $arch) = POSIX::uname();

    return {
        cpu => $cpu // 'unknown', cores => $setup->{cores}{all},
        kernel => "$system $release $arch", nginx => $nginx,
        redis => $redis, load => $setup->{load},
    };
}


# --- numbers as text

sub commas {
    my ($text) = @_;

    1 while $text =~ s/^(-?\d+)(\d{3})/$1,$2/;
    return $text;
}


sub number {
    my ($value, $digits) = @_;

    return '' if !defined $value;
    return commas(sprintf '%.*f', $digits, $value);
}


# "median (min..max)"

sub spread {
    my ($stat, $digits, $scale) = @_;

    return '' if !$stat;

    my ($median, $min, $max) = map { number($_ / ($scale // 1), $digits) }
                               @{$stat}{qw(median min max)};

    return $min eq $max ? $median : "$median ($min..$max)";
}


sub middle {
    my ($stat, $digits, $scale) = @_;
    return $stat ? number($stat->{median} / ($scale // 1), $digits) : '';
}


# --- rows

sub compare_rows {
    my ($self, $part) = @_;
    my %count = map { $_->{id} => $_->{instructions} }
                @{ ($self->get('instructions') // {})->{variants} // [] };

    return map { [
        $_->{title}, spread($_->{rps}, 0), spread($_->{ratio}, 2),
        spread($_->{cpu_us}, 1), middle($_->{p50_us}, 2, 1000),
        spread($_->{p99_us}, 2, 1000), middle($_->{commands}, 2),
        middle($count{ $_->{id} }, 0),
        number(100 * $_->{busy}{median}, 0) . ' %',
    ] } @{ $part->{variants} };
}


sub instructions_rows {
    my ($self, $part) = @_;
    my ($none) = grep { $_->{id} eq 'none' } @{ $part->{variants} };

    return map { [
        $_->{title}, spread($_->{instructions}, 0),
        number($_->{instructions}{median} - $none->{instructions}{median}, 0),
    ] } @{ $part->{variants} };
}


sub keys_rows {
    my ($self, $part) = @_;

    return map { [
        number($_->{keys}, 0), $_->{cache}, spread($_->{rps}, 0),
        middle($_->{p99_us}, 2, 1000), middle($_->{commands}, 2),
        middle($_->{rss_kb}, 1, 1024),
        number(($_->{rss_kb}{median} - $_->{fresh_kb}) / 1024, 1),
        number($_->{redis_mb}, 0),
    ] } @{ $part->{rows} };
}


sub connections_rows {
    my ($self, $part) = @_;

    return map { [
        $_->{connections}, $_->{title}, spread($_->{rps}, 0),
        middle($_->{p50_us}, 2, 1000), middle($_->{p99_us}, 2, 1000),
        middle($_->{rss_kb}, 1, 1024),
    ] } @{ $part->{rows} };
}


sub workers_rows {
    my ($self, $part) = @_;

    return map { [
        $_->{workers}, $_->{title}, spread($_->{rps}, 0),
        middle($_->{cpu_us}, 1), middle($_->{p99_us}, 2, 1000),
    ] } @{ $part->{rows} };
}


sub revoke_rows {
    my ($self, $part) = @_;

    return map { [
        $_->{hosts}, $_->{workers}, spread($_->{answer}, 2),
        spread($_->{accept}, 2), spread($_->{refusal}, 2),
    ] } @{ $part->{rows} };
}


# --- tables

# The table of a part, with spaces between its columns.

sub table {
    my ($self, $name) = @_;
    my $table = $tables{$name};
    my @rows = ($table->{heads}, $table->{rows}->($self, $self->get($name)));
    my @width;

    for my $row (@rows) {
        for my $i (0 .. $#$row) {
            my $n = width($row->[$i]);
            $width[$i] = $n if $n > ($width[$i] // 0);
        }
    }

    my $text = "$table->{title}\n";

    for my $row (@rows) {
        my $line = join '  ', map {
            my $pad = ' ' x ($width[$_] - width($row->[$_]));
            $row->[$_] =~ /^-?\d/ ? $pad . $row->[$_] : $row->[$_] . $pad;
        } 0 .. $#$row;
        $text .= $line =~ s/ +$//r . "\n";
    }

    return $text . ($table->{notes} ? "\n$table->{notes}" : '');
}


# in characters; the text is UTF-8

sub width {
    my ($text) = @_;
    return scalar(() = $text =~ /[^\x80-\xbf]/g);
}


# All that was measured.

sub markdown {
    my ($self) = @_;

    return join '', map { "### $tables{$_}{title}\n\n"
                          . $self->markdown_of($_) . "\n" }
                    grep { $self->get($_) } @order;
}


sub markdown_of {
    my ($self, $name) = @_;
    my $part = $self->get($name);
    my $table = $tables{$name};
    my ($m, $s) = @{$part}{qw(machine settings)};
    my $day = substr $part->{measured}, 0, 10;

    my $text = "`make bench PARTS=$name`, $day: nginx $m->{nginx}, Redis "
        . "$m->{redis},\n$m->{kernel}, $m->{cores} cores of $m->{cpu}, load "
        . "before it $m->{load}.\nRuns of $s->{seconds} s, $s->{rounds} "
        . "rounds in the comparison, $s->{connections} connections, "
        . "$s->{hot} keys.\n\n";

    $text .= '| ' . join(' | ', @{ $table->{heads} }) . " |\n"
          . '|' . '---|' x @{ $table->{heads} } . "\n";
    $text .= '| ' . join(' | ', @$_) . " |\n"
        for $table->{rows}->($self, $part);

    return $text . ($table->{notes} ? "\n$table->{notes}" : '');
}


# Puts each table between its comments, <!-- name --> and <!-- /name -->.

sub refresh {
    my ($self, $file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    my $text = do { local $/; <$in> };

    for my $name (grep { $self->get($_) } @order) {
        my $new = "<!-- $name -->\n" . $self->markdown_of($name)
                  . "<!-- /$name -->\n";

        $text =~ s/^<!-- $name -->\n.*?^<!-- \/$name -->\n/$new/ms
            or die "$file has no place for \"$name\"\n";
    }

    open my $out, '>', $file or die "$file: $!\n";
    print $out $text;
    close $out or die "$file: $!\n";
}

1;
