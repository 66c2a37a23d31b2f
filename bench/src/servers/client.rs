//! `redis-benchmark`: what it is asked, and what it prints.
//!
//! Its latencies are rounded to a few significant digits by itself (HdrHistogram); its percentiles are those of its list
//! "Latency by percentile distribution", of which the first at or above the wanted share is taken, never one below.

use crate::error::{BenchError, Kind};

/// One run to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The server's port on loopback.
    pub port: u16,
    /// Send each key to the node that owns it, as `CLUSTER SLOTS` tells.
    pub cluster: bool,
    /// `set` or `get`.
    pub test: &'a str,
    /// Clients at once.
    pub clients: u32,
    /// Commands sent together by each.
    pub pipeline: u32,
    /// Requests in all.
    pub requests: u64,
    /// Keys to choose from, evenly.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: u32,
}

impl Ask<'_> {
    /// The command line behind the program's name.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-h", "127.0.0.1", "--precision", "3"]
            .map(str::to_owned)
            .to_vec();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("-p", self.port.to_string());
        option("-t", self.test.to_owned());
        option("-c", self.clients.to_string());
        option("-P", self.pipeline.to_string());
        option("-n", self.requests.to_string());
        option("-r", self.keys.to_string());
        option("-d", self.value_bytes.to_string());
        if self.cluster {
            arguments.push("--cluster".to_owned());
        }
        arguments
    }
}

/// What one run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// Requests a second.
    pub rate: f64,
    /// Median latency in microseconds. Of a pipelined command it is that of its whole pipeline.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
}

/// Reads what it prints.
///
/// # Errors
/// That it printed something else, with its last lines: an error of the server stands there.
pub fn read(said: &str) -> Result<Told, BenchError> {
    let percentile = |share: f64| {
        said.split(['\r', '\n'])
            .filter_map(percentile_line)
            .find(|(at, _)| *at >= share)
            .map(|(_, us)| us)
    };
    let rate = said.split(['\r', '\n']).find_map(|line| {
        let (_, rest) = line.split_once("throughput summary: ")?;
        rest.split_once(' ')?.0.parse().ok()
    });
    let told = || {
        Some(Told {
            rate: rate?,
            p50_us: percentile(50.0)?,
            p99_us: percentile(99.0)?,
            p999_us: percentile(99.9)?,
        })
    };
    told().ok_or_else(|| {
        let lines: Vec<&str> = said
            .split(['\r', '\n'])
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = lines[lines.len().saturating_sub(3)..].join(" / ");
        BenchError::new(
            Kind::Machine,
            format!("redis-benchmark printed no whole result; its last words: {last}"),
        )
    })
}

/// A line like `99.902% <= 3.231 milliseconds (cumulative count 19981)`.
fn percentile_line(line: &str) -> Option<(f64, f64)> {
    let (share, rest) = line.split_once("% <= ")?;
    let (ms, _) = rest.split_once(" milliseconds")?;
    Some((share.trim().parse().ok()?, ms.parse::<f64>().ok()? * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As redis-benchmark 7.0.15 prints it, shortened.
    const SAID: &str = "GET: rps=0.0 (overall: 0.0) avg_msec=nan\rGET: rps=67000.0\r====== GET ======\n\
        \x20 20000 requests completed in 0.30 seconds\n\nLatency by percentile distribution:\n\
        0.000% <= 0.175 milliseconds (cumulative count 2)\n\
        50.000% <= 0.351 milliseconds (cumulative count 11012)\n\
        98.438% <= 1.407 milliseconds (cumulative count 19688)\n\
        99.219% <= 1.927 milliseconds (cumulative count 19844)\n\
        99.805% <= 3.015 milliseconds (cumulative count 19961)\n\
        99.902% <= 3.231 milliseconds (cumulative count 19981)\n\
        100.000% <= 3.455 milliseconds (cumulative count 20000)\n\n\
        Cumulative distribution of latencies:\n0.000% <= 0.103 milliseconds (cumulative count 0)\n\n\
        Summary:\n  throughput summary: 67567.57 requests per second\n";

    #[test]
    fn a_percentile_is_never_taken_from_below() {
        let told = read(SAID).unwrap();
        assert_eq!(told.rate, 67_567.57);
        assert_eq!((told.p50_us, told.p99_us, told.p999_us), (351.0, 1927.0, 3231.0));
    }

    #[test]
    fn an_error_is_told_in_its_own_words() {
        let error = read("Error from server: ERR unknown command\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("ERR unknown command"), "{error}");
        let cut = SAID.split("Summary").next().unwrap();
        assert!(read(cut).is_err(), "a run without its rate is no result");
    }

    #[test]
    fn the_command_line_says_what_is_asked() {
        let ask = Ask {
            port: 7,
            cluster: true,
            test: "get",
            clients: 50,
            pipeline: 32,
            requests: 9,
            keys: 8,
            value_bytes: 400,
        };
        let line = ask.arguments().join(" ");
        assert_eq!(
            line,
            "-h 127.0.0.1 --precision 3 -p 7 -t get -c 50 -P 32 -n 9 -r 8 -d 400 --cluster"
        );
    }
}
