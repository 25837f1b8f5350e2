# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The well-behaved part of the fake Redis: enough commands for a handshake
# and for looking up and changing records.  A record is a text or a hash of
# fields; a sorted set is a hash of scores.

package Agntkey::FakeStore;

use strict;
use warnings;

use constant WRONGTYPE => "-WRONGTYPE Operation against a key holding the"
                          . " wrong kind of value\r\n";
use constant OK => "+OK\r\n";


sub new {
    my ($class, $records) = @_;
    return bless { records => $records }, $class;
}


sub bulk { return defined $_[0] ? '$' . length($_[0]) . "\r\n$_[0]\r\n"
                                : "\$-1\r\n" }
sub integer { return ":$_[0]\r\n" }
sub array { return '*' . @_ . "\r\n" . join '', @_ }
sub strings { return array(map { bulk($_) } @_) }


# RESP3 has a type for nothing, and one for pairs.

sub maybe {
    my ($conn, $text) = @_;

    return defined $text || ($conn->{protocol} // 2) == 2 ? bulk($text)
                                                          : "_\r\n";
}


sub pairs {
    my ($conn, @list) = @_;

    return strings(@list) if ($conn->{protocol} // 2) == 2;
    return '%' . @list / 2 . "\r\n" . join '', map { bulk($_) } @list;
}


# The reply to a command, as bytes; queued ones of a transaction wait.

sub answer {
    my ($self, $conn, $name, @args) = @_;

    $name = uc $name;

    if ($conn->{queue} && $name !~ /^(?:EXEC|DISCARD|MULTI)$/) {
        push @{ $conn->{queue} }, [$name, @args];
        return "+QUEUED\r\n";
    }

    my $method = $self->can("cmd_$name")
        or return "-ERR unknown command '$name'\r\n";

    return $self->$method($conn, @args);
}


sub hash {
    my ($self, $key) = @_;
    my $record = $self->{records}{$key};

    return ref $record || !defined $record ? $record // {} : undef;
}


# --- connections

sub cmd_PING { return defined $_[2] ? bulk($_[2]) : "+PONG\r\n" }
sub cmd_ECHO { return bulk($_[2]) }
sub cmd_AUTH { return OK }
sub cmd_SELECT { return OK }
sub cmd_READONLY { return OK }
sub cmd_QUIT { return OK }
sub cmd_CONFIG { return OK }
sub cmd_WAIT { return integer(0) }
sub cmd_INFO { return bulk("redis_version:7.0.15\r\n") }
sub cmd_EVALSHA { return "-NOSCRIPT No matching script.\r\n" }

sub cmd_TIME { return strings(time, 0) }

sub cmd_PUBLISH {
    my ($self, $conn, $channel, $text) = @_;

    return integer($self->{publish} ? $self->{publish}->($channel, $text) : 0);
}


# The scripts by which workers keep their cache right, told by what is in
# them: the canary, a lease, a barrier.  Others are not known.

sub cmd_EVAL {
    my ($self, $conn, $script, $n, @args) = @_;
    my @keys = splice @args, 0, $n;

    if ($script =~ /'PX','10000'/) {
        $self->{invalidate}->(@keys) if $self->{invalidate};
        return integer(scalar @keys);
    }

    if ($script =~ /'ZADD',KEYS\[1\]/ && $script =~ /PUBLISH/) {
        my ($member, $lease, $channel, $text) = @args;

        $self->cmd_ZADD($conn, $keys[0], int(time * 1000) + $lease, $member);
        return $self->cmd_PUBLISH($conn, $channel, $text);
    }

    if ($script =~ /'ZRANGE',KEYS\[1\]/ && $script =~ /PUBLISH/) {
        my @members = sort keys %{ $self->hash($keys[0]) };

        $self->cmd_PUBLISH($conn, @args);
        return array(integer(int(time * 1000)), integer(0), integer(0),
                     strings(@members), integer(0));
    }

    return "-ERR unknown script\r\n";
}

sub cmd_HELLO {
    my ($self, $conn, $protocol) = @_;

    $conn->{protocol} = $protocol if defined $protocol;

    my $id = bulk($conn->{id});
    my $reply = pairs($conn, server => 'redis', version => '7.0.15',
                      proto => $conn->{protocol} // 2, id => $conn->{id},
                      mode => 'standalone', role => 'master');

    # A number, unlike the rest.
    return $reply =~ s/\$2\r\nid\r\n\K\Q$id\E/integer($conn->{id})/er;
}

sub cmd_CLIENT {
    my ($self, $conn, $what, @args) = @_;

    return integer($conn->{id}) if uc $what eq 'ID';
    $conn->{tracking} = uc $args[0] eq 'ON' if uc $what eq 'TRACKING';
    return OK;
}

sub cmd_SUBSCRIBE {
    my ($self, $conn, @channels) = @_;
    my $type = ($conn->{protocol} // 2) == 3 ? '>' : '*';

    return join '', map {
        $conn->{subscribed}{$_} = 1;
        "${type}3\r\n" . bulk('subscribe') . bulk($_)
            . integer(scalar keys %{ $conn->{subscribed} });
    } @channels;
}

sub cmd_MULTI { $_[1]{queue} = []; return OK }
sub cmd_DISCARD { delete $_[1]{queue}; return OK }
sub cmd_WATCH { return OK }
sub cmd_UNWATCH { return OK }

sub cmd_EXEC {
    my ($self, $conn) = @_;
    my $queue = delete $conn->{queue}
        or return "-ERR EXEC without MULTI\r\n";

    return array(map { $self->answer($conn, @$_) } @$queue);
}


# --- any record

sub cmd_EXISTS {
    my ($self, $conn, @keys) = @_;
    return integer(scalar grep { exists $self->{records}{$_} } @keys);
}

sub cmd_DEL {
    my ($self, $conn, @keys) = @_;
    return integer(scalar grep { defined }
                   map { delete $self->{records}{$_} } @keys);
}

sub cmd_UNLINK { goto &cmd_DEL }

sub cmd_TYPE {
    my ($self, $conn, $key) = @_;
    my $record = $self->{records}{$key};

    return !defined $record ? "+none\r\n"
           : !ref $record ? "+string\r\n"
           : $key =~ /^agntkey:(?:key|workspace):/ ? "+hash\r\n"
           : "+zset\r\n";
}

sub cmd_EXPIRE { return integer(exists $_[0]{records}{ $_[2] } ? 1 : 0) }
sub cmd_PEXPIRE { goto &cmd_EXPIRE }

sub cmd_FLUSHALL { $_[0]{records} = {}; return OK }
sub cmd_FLUSHDB { goto &cmd_FLUSHALL }


# --- texts

sub cmd_GET {
    my ($self, $conn, $key) = @_;
    my $record = $self->{records}{$key};

    return ref $record ? WRONGTYPE : maybe($conn, $record);
}

sub cmd_SET {
    my ($self, $conn, $key, $value, @options) = @_;
    my $exists = exists $self->{records}{$key};

    return maybe($conn, undef) if $exists && grep { uc eq 'NX' } @options;

    $self->{records}{$key} = $value;
    return OK;
}


# --- hashes

sub cmd_HGET {
    my ($self, $conn, $key, $field) = @_;
    my $hash = $self->hash($key) or return WRONGTYPE;
    return maybe($conn, $hash->{$field});
}

sub cmd_HMGET {
    my ($self, $conn, $key, @fields) = @_;
    my $hash = $self->hash($key) or return WRONGTYPE;
    return array(map { maybe($conn, $hash->{$_}) } @fields);
}

sub cmd_HGETALL {
    my ($self, $conn, $key) = @_;
    my $hash = $self->hash($key) or return WRONGTYPE;
    return pairs($conn, map { $_ => $hash->{$_} } sort keys %$hash);
}

sub cmd_HEXISTS {
    my ($self, $conn, $key, $field) = @_;
    my $hash = $self->hash($key) or return WRONGTYPE;
    return integer(exists $hash->{$field} ? 1 : 0);
}

sub cmd_HSET {
    my ($self, $conn, $key, %fields) = @_;
    my $hash = $self->hash($key) or return WRONGTYPE;
    my $new = grep { !exists $hash->{$_} } keys %fields;

    $self->{records}{$key} = { %$hash, %fields };
    return integer($new);
}

sub cmd_HSETNX {
    my ($self, $conn, $key, $field, $value) = @_;
    my $hash = $self->hash($key) or return WRONGTYPE;

    return integer(0) if exists $hash->{$field};
    return $self->cmd_HSET($conn, $key, $field, $value);
}

sub cmd_HDEL {
    my ($self, $conn, $key, @fields) = @_;
    my $hash = $self->hash($key) or return WRONGTYPE;
    return integer(scalar grep { defined } map { delete $hash->{$_} }
                   @fields);
}


# --- sorted sets

sub cmd_ZADD {
    my ($self, $conn, $key, @args) = @_;
    my $set = $self->hash($key) or return WRONGTYPE;
    my $new = 0;

    shift @args while @args && $args[0] =~ /^(?:NX|XX|GT|LT|CH)$/i;

    while (my ($score, $member) = splice @args, 0, 2) {
        $new++ if !exists $set->{$member};
        $set->{$member} = $score;
    }

    $self->{records}{$key} = $set;
    return integer($new);
}

sub cmd_ZSCORE { goto &cmd_HGET }
sub cmd_ZREM { goto &cmd_HDEL }

sub cmd_ZCARD {
    my ($self, $conn, $key) = @_;
    my $set = $self->hash($key) or return WRONGTYPE;
    return integer(scalar keys %$set);
}

sub cmd_XADD { return bulk('1700000000000-0') }

1;
