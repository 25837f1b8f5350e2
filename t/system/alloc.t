# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# No memory: of all the allocations that a worker makes for a request, each in
# its turn fails, until a request passes untouched.  An error is an answer, or
# a closed connection; a crash is none, and neither is an allow.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use Digest::SHA qw(sha256_hex);
use Fcntl qw(O_CREAT O_RDWR);
use Test::More;

my $control = test_dir() . '/alloc.control';
my $library = test_dir() . '/alloc.so';
my $output = qx{cc -O2 -shared -fPIC -o '$library' t/util/alloc.c 2>&1};

plan skip_all => "cannot build t/util/alloc.c: $output" if $? != 0;

# More than any request takes.
my $most = 2000;

sub write_control {
    my ($pid, $fail) = @_;

    # over what is there: it is the memory of others
    sysopen(my $out, $control, O_RDWR | O_CREAT) or die "$control: $!\n";
    syswrite($out, pack 'q3', $pid, $fail, 0) == 24
        or die "$control: $!\n";
}

sub seen {
    open my $in, '<:raw', $control or die "$control: $!\n";
    sysread($in, my $text, 24) == 24 or die "$control: $!\n";
    return (unpack 'q3', $text)[2];
}

redis_start();
seed_key('good');
write_control(0, 0);

my $token = sha256_hex("alloc $$");
my $tokens = test_dir() . '/admin.token';

open my $out, '>', $tokens or die "$tokens: $!\n";
print $out sha256_hex($token), "\n";
close $out;

# What nginx says of it, and what we do.
my $keep = qr/12:\ Cannot\ allocate\ memory
              |agntkey:\ (?:SHA-256\ failed|OpenSSL\ made\ no\ key)/x;

# Small pools: what a pool has to spare, no allocation is made for.  A lease
# that is short, since who gets no memory often loses his.
my $nginx = Agntkey::Nginx->new(
    http => "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT};"
            . 'agntkey_cache entries=1000 lease=200ms;'
            . 'map $http_x_mapped $mapped { "~^x(?<ws>.+)$" $ws; }'
            . 'connection_pool_size 128; request_pool_size 128;',
    server => <<"_EOC_",
location /t {
    agntkey on;
    add_header X-Cache \$agntkey_cache always;
    empty_gif;
}
location ~ ^/mapped/([^/]+)\$ {
    agntkey on;
    agntkey_token "\$mapped";
    agntkey_workspace "none\$mapped" \$1;
    empty_gif;
}

location /agntkey/ {
    agntkey_admin on;
    agntkey_admin_token_file $tokens;
}
_EOC_
    keep => $keep,
);

{
    local $ENV{LD_PRELOAD} = $library;
    local $ENV{AGNTKEY_ALLOC} = $control;
    $nginx->start;
}

# the one whose allocations fail
my ($worker) = $nginx->workers;

sub admin {
    my ($line, $body, $bearer) = @_;
    my ($method, $path) = split / /, $line;
    my @type = defined $body ? 'Content-Type: application/json' : ();

    return http("$method /agntkey/$path", body => $body,
                headers => [bearer($bearer // $token), @type]);
}

# What is asked is counted from here to the end of its answer.

sub with_failure {
    my ($fail, $ask) = @_;

    write_control($worker, $fail);
    my $res = eval { $ask->() } // { code => "died: $@" };
    my $seen = seen();
    write_control(0, 0);

    return ($res, $seen);
}

# A sanitizer or valgrind has allocations of its own.
if (!(with_failure(0, sub { ask('good') }))[1]) {
    $nginx->stop;
    plan skip_all => 'the allocations of this nginx cannot be counted';
}

# $prepare->($n) is what is there before, $ask->($n) the request, and
# $check->($n, $res) says what is wrong with its answer, if anything is.

sub torture {
    my ($title, %opt) = @_;
    my ($n, @wrong, %codes, %bodies);
    my $refusals = 0;

    for ($n = 1; $n <= $most; $n++) {
        $opt{prepare}->($n) if $opt{prepare};

        my ($res, $seen) = with_failure($n, sub { $opt{ask}->($n) });
        my $code = $res->{timeout} ? 'timeout' : $res->{code};

        $codes{$code eq '' ? 'closed' : $code}++;
        $bodies{$res->{body}} = $n if $opt{same} && $code eq $opt{codes};

        my $wrong = $code =~ /^(?:$opt{codes}|500|503|)$/
                    ? $opt{check} && $opt{check}->($n, $res)
                    : "answered $code";
        push @wrong, "allocation $n of $seen: $wrong\n" if $wrong;

        # a connection that was lost is not there again at once
        if ($seen < $n && $code eq '503' && $refusals++ < 400) {
            select undef, undef, undef, 0.05;
            $n--;
            next;
        }

        # the next one works, if need be with a new connection to Redis
        if (!wait_until(5, sub { ask('good')->{code} eq '200' })) {
            push @wrong, "allocation $n: a good key gets no 200 afterwards\n";
            last;
        }

        last if $seen < $n || !Agntkey::Nginx::running($worker);
    }

    push @wrong, map { "allocation $bodies{$_}: $_\n" } sort keys %bodies
        if keys %bodies > 1;

    ok(!@wrong, "$title: no answer is wrong") or diag(@wrong[0 .. 9]);
    cmp_ok($n, '>', $opt{least} // 10, "$title: $n allocations failed in turn");
    cmp_ok($n, '<=', $most, "$title: the last request passed untouched");
    cmp_ok(($codes{500} // 0) + ($codes{503} // 0) + ($codes{closed} // 0),
           '>=', $opt{seen} // 6, "$title: and it was seen");
    ok(Agntkey::Nginx::running($worker), "$title: the worker lives");
    note(join ', ', map { "$_: $codes{$_}" } sort keys %codes);
}

sub allowed {
    my ($n, $res) = @_;
    return $res->{code} eq '200' && 'was let in';
}


# --- the access path

# Each key once: what is remembered of one need not be asked for.
torture('a good key', codes => '200',
        prepare => sub { seed_key("good-$_[0]") },
        ask => sub { ask("good-$_[0]") });

torture('an unknown key', codes => '401', check => \&allowed,
        ask => sub { ask("nobody-$_[0]") });

torture('a revoked key', codes => '401', check => \&allowed,
        prepare => sub { seed_key("revoked-$_[0]", active => undef,
                                  revoked_at => 1) },
        ask => sub { ask("revoked-$_[0]") });

torture('a disabled workspace', codes => '403', check => \&allowed,
        prepare => sub {
            seed_workspace("off-$_[0]", active => undef);
            seed_key("off-$_[0]", workspace => "off-$_[0]");
        },
        ask => sub {
            http('GET /t', headers => bearer(
                key_for("off-$_[0]", workspace => "off-$_[0]")));
        });

# Values that are evaluated: the second workspace is another one's.  A map of
# nginx that gets no memory for a match has its default: no key, so 401.
torture('a key in a map', codes => '40[13]', check => \&allowed,
        ask => sub {
            http('GET /mapped/other',
                 headers => 'X-Mapped: x' . key_for('good'));
        });

torture('no key', codes => '401', check => \&allowed,
        ask => sub { http('GET /t') });

# The connection goes, and is made anew with the request that waits for it.
torture('a good key and a new connection to Redis', codes => '200',
        prepare => sub { seed_key("again-$_[0]") },
        ask => sub {
            redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
            ask("again-$_[0]");
        });


# --- the admin API

sub create {
    my ($n) = @_;
    return admin('POST keys', qq({"workspace":"acme","name":"key $n",)
                              . '"scopes":["read","write"]}');
}

torture('create', codes => '201', ask => \&create, check => sub {
    my ($n, $res) = @_;
    return $res->{code} eq '201' && $res->{body} !~ /"key":"agnt_\w{50}"/
           && 'a 201 without a key';
});

# A text that is longer than what jansson begins with is read whole or not.
my $long = join ' ', 'a name of many words', 1 .. 24;

torture('create, long texts', codes => '201',
        ask => sub {
            admin('POST keys', qq({"workspace":"a-workspace-of-many-letters",)
                               . qq("name":"$long"}));
        },
        check => sub {
            my ($n, $res) = @_;
            return $res->{code} eq '201'
                   && ($res->{body} !~ /"name":"\Q$long\E"/
                       || $res->{body} !~ /"a-workspace-of-many-letters"/)
                   && "cut: $res->{body}";
        });

torture('create, by nobody', codes => '401', ask => sub {
    admin('POST keys', '{"workspace":"acme","name":"a name"}', 'no-token');
});

# What is told is told in full.
torture('list', codes => '200', same => 1,
        ask => sub { admin('GET keys?workspace=acme&limit=3') });

my ($key, $id);

torture('revoke', codes => '200',
        prepare => sub {
            my $n = shift;

            wait_until(10, sub {
                ($key, $id) = create("of $n")->{body}
                    =~ /"key":"(agnt_(\w{12})\w{38})"/;
            }) or die "no key\n";

            # from now on it is remembered
            wait_until(10, sub {
                http('GET /t', headers => bearer($key))
                    ->{headers}{'x-cache'} eq 'HIT';
            });
        },
        ask => sub { admin("POST keys/$id/revoke") },
        check => sub {
            my ($n, $res) = @_;

            return 'revoked, and let in' if $res->{code} eq '200'
                && http('GET /t', headers => bearer($key))->{code} ne '401';

            # whatever became of the first, the second works
            my $again = admin("POST keys/$id/revoke")->{code};
            return $again ne '200' && "once more: $again";
        });

redis_empty();
seed_key('good');
seed_workspace('two');
redis_cmd('ZADD', 'agntkey:workspaces', 0, 'acme', 0, 'two');

torture('workspaces', codes => '200', same => 1,
        ask => sub { admin('GET workspaces') });

ok(defined $nginx->quit, 'quit');


# --- what is remembered, and who is told that it is no more

$nginx = Agntkey::Nginx->new(
    workers => 2, cached(cache => 'entries=1000 lease=200ms'),
    keep => $keep,
);

{
    local $ENV{LD_PRELOAD} = $library;
    local $ENV{AGNTKEY_ALLOC} = $control;
    $nginx->start;
}

my %client = worker_clients($nginx);
my $other;
($worker, $other) = sort keys %client;

# A connection that got no memory is made anew.

sub ask_it {
    my ($label) = @_;
    my $res = ask_worker($client{$worker}, $label);

    %client = worker_clients($nginx) if $res->{code} eq '';
    return $res;
}

sub remembered {
    my ($label) = @_;
    return wait_until(10, sub { said(ask_it($label)) eq '200 HIT' });
}

sub refused {
    my ($label) = @_;
    return wait_until(10, sub { said(ask_it($label)) =~ /^401 revoked / });
}

# Whatever came of it, later it is remembered, and forgotten when it changes.
torture('a miss', codes => '200',
        prepare => sub { seed_key("miss-$_[0]") },
        ask => sub { ask_it("miss-$_[0]") },
        check => sub {
            my ($n) = @_;

            return 'not remembered' if !remembered("miss-$n");
            redis_cmd('HDEL', record_of("miss-$n"), 'active');
            return !refused("miss-$n") && 'revoked, and let in';
        });

# Another program revokes a key: who gets no memory to hear of it has to find
# that his lease is over.
torture('a change', codes => '200|401', seen => 3,
        prepare => sub {
            seed_key("change-$_[0]");
            remembered("change-$_[0]");
        },
        ask => sub {
            redis_cmd('HDEL', record_of("change-$_[0]"), 'active');
            ask_it("change-$_[0]");
        },
        check => sub { !refused("change-$_[0]") && 'revoked, and let in' });

# One worker revokes, and the other one, which is to confirm it, fails.
torture('a revocation that is to be confirmed', codes => '200', seen => 0,
        prepare => sub {
            seed_key("other-$_[0]");
            remembered("other-$_[0]");
        },
        ask => sub { revoke("other-$_[0]", client => $client{$other}) },
        check => sub {
            my ($n, $res) = @_;

            return 'not revoked' if $res->{code} ne '200';
            return said(ask_it("other-$n")) =~ /^200/
                   && 'revoked, and let in';
        });

ok(defined $nginx->quit, 'quit');
logs_clean();
done_testing();
