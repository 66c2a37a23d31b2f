"""A talk with a running server through redis-py, RESP2 and RESP3: python3 .ci/clients.py PORT [CLUSTER_PORT].

What applications use of the client: strings, expiry, bits, pipelines, transactions with WATCH, scans, and with a second
port the cluster client over one port a core. Any wrong answer ends it with a traceback.
"""

import sys
import time

import redis


def equal(got, wanted, what):
    if got != wanted:
        raise SystemExit(f"clients: {what}: got {got!r}, wanted {wanted!r}")


def strings(r):
    equal(r.set("s", "one"), True, "SET")
    equal(r.set("s", "two", nx=True), None, "SET NX")
    equal(r.set("s", "two", xx=True, get=True), "one", "SET XX GET")
    equal(r.getset("s", "three"), "two", "GETSET")
    equal(r.append("s", "!"), 6, "APPEND")
    equal(r.getrange("s", 0, 2), "thr", "GETRANGE")
    equal(r.setrange("s", 0, "T"), 6, "SETRANGE")
    equal(r.strlen("s"), 6, "STRLEN")
    equal(r.getdel("s"), "Three!", "GETDEL")
    equal(r.exists("s"), 0, "EXISTS")
    equal(r.incr("n", 41), 41, "INCRBY")
    equal(r.decr("n"), 40, "DECR")
    equal(r.incrbyfloat("f", 0.1) + r.incrbyfloat("f", 0.2), 0.1 + 0.3, "INCRBYFLOAT")
    equal(r.mget("n", "nothing"), ["40", None], "MGET")
    equal(r.msetnx({"{m}a": 1, "{m}b": 2}), True, "MSETNX")
    equal(r.rename("{m}a", "{m}c"), True, "RENAME")
    equal(r.copy("{m}c", "{m}d"), True, "COPY")
    equal(r.type("{m}d"), "string", "TYPE")
    equal(r.delete("n", "f", "{m}b", "{m}c", "{m}d"), 5, "DEL")


def bits(r):
    equal(r.setbit("bits", 7, 1), 0, "SETBIT")
    equal(r.getbit("bits", 7), 1, "GETBIT")
    equal(r.bitcount("bits"), 1, "BITCOUNT")
    equal(r.bitpos("bits", 1), 7, "BITPOS")
    r.delete("bits")


def expiry(r):
    r.set("e", "x", px=60)
    equal(r.ttl("e") in (0, 1), True, "TTL")
    time.sleep(0.1)
    equal(r.get("e"), None, "GET of an expired key")
    r.set("e", "x")
    equal(r.expire("e", 100), True, "EXPIRE")
    equal(r.expire("e", 50, gt=True), False, "EXPIRE GT")
    equal(99 <= r.ttl("e") <= 100, True, "TTL")
    equal(r.persist("e"), True, "PERSIST")
    equal(r.ttl("e"), -1, "TTL")
    equal(r.getex("e", ex=100), "x", "GETEX")
    r.delete("e")


def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for n in range(5000):
        pipe.set(f"p:{n}", n)
    equal(set(pipe.execute()), {True}, "a pipeline of SET")
    for n in range(5000):
        pipe.get(f"p:{n}")
    equal(pipe.execute(), [str(n) for n in range(5000)], "a pipeline of GET")
    found = sorted(int(key[2:]) for key in r.scan_iter("p:*", count=500))
    equal(found, list(range(5000)), "SCAN")
    equal(r.delete(*[f"p:{n}" for n in range(5000)]), 5000, "DEL of many")


def transactions(r):
    pipe = r.pipeline(transaction=True)
    pipe.set("{t}a", 1).incr("{t}a").get("{t}a")
    equal(pipe.execute(), [True, 2, "2"], "MULTI")
    with r.pipeline() as watching:
        watching.watch("{t}a")
        now = int(watching.get("{t}a"))
        r.set("{t}a", 10)
        watching.multi()
        watching.set("{t}a", now + 1)
        try:
            watching.execute()
            raise SystemExit("clients: a watched key changed and EXEC went through")
        except redis.WatchError:
            pass
    equal(r.get("{t}a"), "10", "after an aborted EXEC")
    pipe = r.pipeline(transaction=True)
    pipe.set("{t}b", "text").incr("{t}b").set("{t}c", "kept")
    answers = pipe.execute(raise_on_error=False)
    equal([answers[0], isinstance(answers[1], redis.ResponseError), answers[2]], [True, True, True], "an error in MULTI")
    equal(r.get("{t}c"), "kept", "what follows an error in MULTI")
    r.delete("{t}a", "{t}b", "{t}c")


def server(r):
    equal(r.ping(), True, "PING")
    equal(r.client_setname("clients"), True, "CLIENT SETNAME")
    equal(any(client["name"] == "clients" for client in r.client_list()), True, "CLIENT LIST")
    equal(r.info("server")["redis_version"].startswith("7."), True, "INFO")
    equal("maxclients" in r.config_get("max*"), True, "CONFIG GET")
    equal(r.command_count() > 50, True, "COMMAND COUNT")
    equal(r.command_getkeys("MSET", "a", "1", "b", "2"), ["a", "b"], "COMMAND GETKEYS")
    equal(isinstance(r.slowlog_get(), list), True, "SLOWLOG GET")
    try:
        r.lpush("list", "x")
        raise SystemExit("clients: LPUSH went through")
    except redis.ResponseError as error:
        equal(len(str(error)) > 0, True, "LPUSH")


def cluster(port, protocol):
    r = redis.RedisCluster(host="127.0.0.1", port=port, protocol=protocol, decode_responses=True)
    for n in range(500):
        r.set(f"c:{n}", n)
    equal([r.get(f"c:{n}") for n in range(500)], [str(n) for n in range(500)], "the cluster client")
    pipe = r.pipeline()
    for n in range(500):
        pipe.delete(f"c:{n}")
    equal(sum(pipe.execute()), 500, "a pipeline of the cluster client")
    r.close()


def main():
    port = int(sys.argv[1])
    for protocol in (2, 3):
        r = redis.Redis(port=port, protocol=protocol, decode_responses=True)
        for part in (strings, bits, expiry, pipelines, transactions, server):
            part(r)
        r.close()
        if len(sys.argv) > 2:
            cluster(int(sys.argv[2]), protocol)
    print(f"clients: redis-py {redis.__version__}: ok")


if __name__ == "__main__":
    main()
