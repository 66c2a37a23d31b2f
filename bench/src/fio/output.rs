//! Reads what fio prints with `--output-format=json+`: rates, and the full latency histogram of each job (fio's HOWTO,
//! "Interpreting the output"). fio may print notes before the JSON. Pure.

use serde_json::Value;

use crate::error::{BenchError, Kind};

/// What fio measured for one job.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Its section's name.
    pub name: String,
    /// Operations that it did.
    pub operations: u64,
    /// Operations a second.
    pub rate: f64,
    /// Half of the operations took no longer, in nanoseconds.
    pub p50_ns: u64,
    /// 99 % of them took no longer, in nanoseconds.
    pub p99_ns: u64,
}

/// Reads all jobs, in fio's order.
///
/// # Errors
/// Saying what is missing or not understood, or which job failed and how; with the begin of what fio said.
pub fn read(text: &str) -> Result<Vec<Measured>, BenchError> {
    let said = || text.trim().chars().take(400).collect::<String>();
    let wrong = |words: &str| BenchError::new(Kind::Machine, format!("{words}; it said: {}", said()));
    let json = text
        .find("\n{")
        .map(|at| at + 1)
        .filter(|_| !text.starts_with('{'))
        .unwrap_or(0);
    // What follows the object, such as a last warning, is not ours.
    let first = serde_json::Deserializer::from_str(&text[json..])
        .into_iter::<Value>()
        .next();
    let Some(Ok(run)) = first else {
        return Err(wrong("fio's output is no JSON"));
    };
    let jobs = run
        .get("jobs")
        .and_then(Value::as_array)
        .filter(|jobs| !jobs.is_empty());
    let jobs = jobs.ok_or_else(|| wrong("fio's output tells of no job"))?;
    jobs.iter()
        .map(|value| job(value).map_err(|words| wrong(&words)))
        .collect()
}

fn job(value: &Value) -> Result<Measured, String> {
    let name = value
        .get("jobname")
        .and_then(Value::as_str)
        .ok_or("a job of fio's has no name")?;
    let missing = |what: &str| format!("fio's job {name} has no {what}");
    let error = value
        .get("error")
        .and_then(Value::as_i64)
        .ok_or_else(|| missing("error number"))?;
    if error != 0 {
        let system = i32::try_from(error).map(std::io::Error::from_raw_os_error);
        let words = system.map_or_else(|_| error.to_string(), |e| e.to_string());
        return Err(format!("fio's job {name} failed: {words}"));
    }
    let operations_of = |side: &str| {
        value
            .get(side)?
            .get("total_ios")?
            .as_u64()
            .filter(|count| *count > 0)
    };
    let (read, write) = (operations_of("read"), operations_of("write"));
    let (side, operations) = match (read, write) {
        (Some(read), None) => ("read", read),
        (None, Some(write)) => ("write", write),
        (None, None) => return Err(format!("fio's job {name} did nothing")),
        (Some(_), Some(_)) => {
            return Err(format!(
                "fio's job {name} both read and wrote, which none of ours does"
            ));
        }
    };
    let side = &value[side];
    if side
        .get("short_ios")
        .and_then(Value::as_u64)
        .is_some_and(|short| short > 0)
    {
        return Err(format!("fio's job {name} had short reads or writes"));
    }
    let rate = side
        .get("iops")
        .and_then(Value::as_f64)
        .filter(|rate| *rate > 0.0);
    // `lat` is the whole time of an operation, as the raw loop counts it; `clat` begins after the submission.
    let bins = side
        .get("lat_ns")
        .and_then(|lat| lat.get("bins"))
        .and_then(Value::as_object);
    let bins = bins.ok_or_else(|| missing("histogram of lat_ns (lat_percentiles=1, json+)"))?;
    let bins: Option<Vec<(u64, u64)>> = bins
        .iter()
        .map(|(ns, count)| Some((ns.parse().ok()?, count.as_u64()?)))
        .collect();
    let mut bins = bins.ok_or_else(|| missing("readable histogram"))?;
    bins.sort_unstable();
    Ok(Measured {
        name: name.to_owned(),
        operations,
        rate: rate.ok_or_else(|| missing("rate"))?,
        p50_ns: percentile(&bins, 0.5).ok_or_else(|| missing("latency at all"))?,
        p99_ns: percentile(&bins, 0.99).ok_or_else(|| missing("latency at all"))?,
    })
}

fn percentile(bins: &[(u64, u64)], share: f64) -> Option<u64> {
    let total: u64 = bins.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    bins.iter().find_map(|(ns, count)| {
        seen += count;
        (*count > 0 && seen as f64 >= share * total as f64).then_some(*ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fio 3.33 printed for two jobs of 64 operations each.
    const SAMPLE: &str = include_str!("sample.json");

    #[test]
    fn a_real_output_is_read_notes_before_and_after_it_too() {
        let jobs = read(SAMPLE).unwrap();
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["reads", "writes"]);
        for job in &jobs {
            assert_eq!(job.operations, 64);
            assert!(
                job.rate > 0.0 && job.p50_ns > 0 && job.p99_ns >= job.p50_ns,
                "{job:?}"
            );
        }
        let noisy = format!("fio: clock set to gtod\nnote: {{both}}\n{SAMPLE}\nfio: terminating\n");
        assert_eq!(read(&noisy).unwrap(), jobs);
        assert_eq!(
            serde_json::from_str::<Value>(SAMPLE).unwrap()["fio version"],
            "fio-3.33"
        );
    }

    #[test]
    fn percentiles_come_from_the_whole_histogram() {
        let bins = [(10, 50), (20, 49), (30, 0), (40, 1)];
        assert_eq!(percentile(&bins, 0.5), Some(10));
        assert_eq!(percentile(&bins, 0.51), Some(20));
        assert_eq!(percentile(&bins, 0.99), Some(20));
        assert_eq!(percentile(&bins, 1.0), Some(40));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn bad_outputs_are_errors_with_what_fio_said() {
        let cut = &SAMPLE[..SAMPLE.len() / 2];
        let failed = SAMPLE.replacen("\"error\" : 0", "\"error\" : 28", 1);
        let no_bins = SAMPLE.replace("\"bins\"", "\"bims\"");
        let idle = SAMPLE.replace("\"total_ios\" : 64", "\"total_ios\" : 0");
        let short = SAMPLE.replace("\"short_ios\" : 0", "\"short_ios\" : 3");
        let bad: [(&str, &str); 8] = [
            ("", "no JSON"),
            (
                "fio: pid=7, err=2/file:filesetup.c: No such file",
                "it said: fio: pid=7",
            ),
            (cut, "no JSON"),
            ("{\"jobs\" : []}", "no job"),
            (&failed, "reads failed: No space left on device"),
            (&no_bins, "histogram"),
            (&idle, "did nothing"),
            (&short, "short"),
        ];
        for (text, words) in bad {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
