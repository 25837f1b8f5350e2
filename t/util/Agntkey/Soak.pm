# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The clients of t/system/soak.t, each a process: users on HTTP/1.1 and
# HTTP/2, with good keys and others, who wait for their answers or leave; and
# administrators.  What they got comes back as counts, "<who> <code>"; an
# empty code is a connection that was closed.

package Agntkey::Soak;

use strict;
use warnings;

use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep);

use Agntkey::Client;
use Agntkey::Key;

my $utf8 = JSON::PP->new->utf8;
my @all;


# new(dir =>, number =>, kind => 'users', 'streams' or 'admin',
#     workspace =>, port =>): works until finish().

sub new {
    my ($class, %opt) = @_;
    my $self = bless { owner => $$, file => "$opt{dir}/$opt{number}",
                       count => {}, created => 0, unsure => 0, known => [],
                       revoked => [], wrong => [], %opt }, $class;

    $self->{pid} = fork // die "fork: $!\n";

    if ($self->{pid} == 0) {
        my $work = $self->can("be_$self->{kind}");

        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__ __WARN__);
        srand $self->{number};

        my $done = eval {
            $work->($self) until -e "$self->{dir}/stop";
            $self->save;
            1;
        };

        warn "$self->{kind} $self->{number}: $@" if !$done;
        POSIX::_exit($done ? 0 : 1);
    }

    push @all, $self;
    return $self;
}


sub save {
    my ($self) = @_;
    my @names = qw(count created unsure known revoked wrong);
    my %results;

    @results{@names} = @{$self}{@names};

    open my $out, '>', $self->{file} or die "$self->{file}: $!\n";
    print $out $utf8->encode(\%results);
    close $out or die "$self->{file}: $!\n";
}


# finish($dir): all results, once all have come to an end; undef for one that
# has not.

sub finish {
    my ($dir) = @_;

    open my $out, '>', "$dir/stop" or die "$dir/stop: $!\n";

    return map {
        my $self = $_;
        my $ended = Agntkey::wait_until(60, sub {
            waitpid($self->{pid}, POSIX::WNOHANG()) != 0
        });

        delete $self->{pid} if $ended;
        $ended && $? == 0 ? $self->results : undef;
    } @all;
}


sub results {
    my ($self) = @_;

    open my $in, '<', $self->{file} or return undef;
    local $/;
    return { kind => $self->{kind}, workspace => $self->{workspace},
             %{ $utf8->decode(<$in>) } };
}


sub stop {
    my ($self) = @_;

    return if $$ != $self->{owner} || !$self->{pid};

    local ($?, $!);
    kill 'KILL', $self->{pid};
    waitpid delete $self->{pid}, 0;
}

END { $_->stop for @all }


# --- in the process of its own

sub saw {
    my ($self, $who, $res) = @_;
    $self->{count}{"$who " . ($res->{timeout} ? 'timeout' : $res->{code})}++;
}


my $number = 0;

sub key_of {
    my ($who) = @_;

    return key_for('good-' . int rand 20) if $who eq 'good';
    return key_for("nobody-$$-" . ++$number) if $who eq 'unknown';
    return key_for('revoked') if $who eq 'revoked';
    return substr(key_for('good-0'), 0, -1 - int rand 10);
}


# Some requests in one write, on a connection that is kept.

sub be_users {
    my ($self) = @_;
    my @who = map { (qw(good good good good unknown revoked bad))[rand 7] }
              0 .. rand 5;
    my $text = join '', map {
        "GET /t HTTP/1.1\r\nHost: localhost\r\n"
        . "Authorization: Bearer " . key_of($_) . "\r\n\r\n"
    } @who;

    if ($self->{client}) {
        $self->{client}->write($text);

    } else {
        $self->{client} = http_start('', raw => $text,
                                     port => $self->{port});
    }

    if (rand() < 0.1) {
        (delete $self->{client})->leave(rand() < 0.5 ? 'rst' : 'fin');
        return;
    }

    for my $who (@who) {
        my $res = $self->{client}->response(20);

        $self->saw($who, $res);

        if ($res->{code} eq '' || $res->{timeout}
            || lc($res->{headers}{connection} // '') eq 'close')
        {
            delete $self->{client};
            return;
        }
    }
}


# Many streams at once; every third time they are left in the middle.

sub be_streams {
    my ($self) = @_;
    my $who = (qw(good good unknown bad))[rand 4];
    my $leaves = rand() < 0.33;
    my $out = "$self->{file}.out";
    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        open STDOUT, '>', $out;
        open STDERR, '>&', \*STDOUT;

        { exec 'h2load', '-c', 2, '-m', 10, '-n', $leaves ? 1_000_000 : 200,
               '-T', '20', '-H', 'authorization: Bearer ' . key_of($who),
               "http://127.0.0.1:$self->{port}/t" }
        POSIX::_exit(127);
    }

    if ($leaves) {
        sleep 0.05 + rand 0.2;
        kill 'KILL', $pid;
    }

    waitpid $pid, 0;

    die "no h2load\n" if $? >> 8 == 127;
    return if $leaves;

    open my $in, '<', $out or die "$out: $!\n";
    local $/;

    my $text = <$in>;
    my @codes = $text =~ /^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+)/m;

    $self->{count}{"$who-h2 " . (2 + $_) . 'xx'} += $codes[$_]
        for grep { $codes[$_] } 0 .. $#codes;
}


sub call {
    my ($self, $line, $body, @headers) = @_;
    my ($method, $path) = split / /, $line;

    push @headers, 'Content-Type: application/json' if defined $body;

    my $res = eval {
        http("$method /agntkey/$path", body => $body, timeout => 20,
             port => $self->{port}, headers => \@headers);
    } // { code => '', body => '' };

    $self->saw($method . ($path =~ m{/(\w+)$} ? " $1" : ''), $res);

    $res->{json} = eval { $utf8->decode($res->{body}) } // {};
    return $res;
}


# Repeats what is safe to repeat until Redis has taken it.

sub insist {
    my ($self, $want, @call) = @_;

    for (1 .. 200) {
        my $res = $self->call(@call);

        return $res if $res->{code} =~ $want;
        sleep 0.05;
    }

    push @{ $self->{wrong} }, "$call[0] does not succeed";
    die "$call[0] does not succeed\n";
}


sub ask {
    my ($self, $who, $key) = @_;
    my $res = eval { http('GET /t', port => $self->{port}, timeout => 20,
                          headers => "Authorization: Bearer $key") }
              // { code => '' };

    $self->saw($who, $res);
}


# A key is made and used; some have a successor; most are revoked.

sub be_admin {
    my ($self) = @_;
    my $ws = $self->{workspace};
    my $once = "soak-$self->{number}-" . ++$number;
    my $res = $self->insist(qr/^(?:201|409)$/, 'POST keys',
        qq({"workspace":"$ws","name":"key $number"}),
        "Idempotency-Key: $once");
    my @mine = ([@{ $res->{json} }{qw(id key)}]);

    $self->{created}++;
    $self->ask('fresh', $mine[0][1]) if $mine[0][1];

    if ($number % 3 == 0) {
        $res = $self->call("POST keys/$mine[0][0]/rotate",
                           '{"overlap_seconds":60}');

        if ($res->{code} eq '201') {
            $self->{created}++;
            push @mine, [@{ $res->{json} }{qw(id key)}];
            $self->ask('fresh', $mine[-1][1]);

        } else {
            $self->{unsure}++;
        }
    }

    if ($number % 4 == 0) {
        $res = $self->call("GET keys?workspace=$ws&limit=5");
        push @{ $self->{wrong} }, 'a list that is none'
            if $res->{code} eq '200' && ref $res->{json}{data} ne 'ARRAY';
    }

    for my $mine (@mine) {
        my ($id, $key) = @$mine;

        push @{ $self->{known} }, $id;
        next if $number % 5 == 0;

        $self->insist(qr/^200$/, "POST keys/$id/revoke");
        push @{ $self->{revoked} }, $id;
        $self->ask('gone', $key) for $key ? 1 .. 3 : ();
    }
}

1;
