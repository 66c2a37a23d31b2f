//! Every refusal, every preset, every spec that lies in the repository.

use super::*;

fn good() -> Spec {
    let mut spec = preset("readwhilewriting", &Scale::default()).unwrap();
    spec.phases[1].groups[1].load = Load::Open {
        callers: 1,
        rate: 100.0,
        arrival: Arrival::Fixed,
    };
    spec
}

/// Spoils a good spec and tells what is said to it.
fn spoilt(spoil: impl FnOnce(&mut Spec)) -> String {
    let mut spec = good();
    assert_eq!(spec.check(), Ok(()));
    spoil(&mut spec);
    let error = spec.check().expect_err("the spoilt spec is refused");
    error.to_string()
}

fn refused(path: &str, spoil: impl FnOnce(&mut Spec)) {
    let words = spoilt(spoil);
    assert!(
        words.starts_with(&format!("{path}: ")),
        "{words:?} should name {path}"
    );
}

#[test]
fn names_and_numbers_of_things_out_of_bounds_are_refused() {
    for name in ["", "a/b", ".hidden", "with space", &"x".repeat(65)] {
        refused("name", |spec| name.clone_into(&mut spec.name));
        refused("phases[1].name", |spec| name.clone_into(&mut spec.phases[1].name));
        refused("phases[0].groups[0].name", |spec| {
            name.clone_into(&mut spec.phases[0].groups[0].name);
        });
    }
    refused("phases[1].name", |spec| spec.phases[1].name = "load".to_owned());
    refused("phases[1].groups[1].name", |spec| {
        spec.phases[1].groups[1].name = "readers".to_owned()
    });
    refused("repeats", |spec| spec.repeats = 0);
    refused("repeats", |spec| spec.repeats = 1001);
    refused("phases", |spec| spec.phases.clear());
    refused("phases", |spec| spec.phases = vec![spec.phases[0].clone(); 17]);
    refused("phases[1].groups", |spec| spec.phases[1].groups.clear());
    refused("phases[1].groups", |spec| {
        spec.phases[1].groups = vec![spec.phases[0].groups[0].clone(); 17];
    });
}

#[test]
fn data_out_of_bounds_is_refused() {
    refused("keys.count", |spec| spec.keys.count = 0);
    refused("keys.count", |spec| spec.keys.count = (1 << 40) + 1);
    refused("keys.bytes", |spec| spec.keys.bytes = 15);
    refused("keys.bytes", |spec| spec.keys.bytes = 1025);
    refused("values.bytes", |spec| {
        spec.values.bytes = Sizes::Fixed((64 << 20) + 1)
    });
    refused("values.bytes", |spec| {
        spec.values.bytes = Sizes::Uniform { min: 2, max: 1 }
    });
    refused("values.bytes", |spec| {
        spec.values.bytes = Sizes::Zipfian {
            min: 2,
            max: u32::MAX,
        }
    });
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        refused("values.compressible", |spec| spec.values.compressible = share);
    }
    refused("keys.count", |spec| {
        spec.keys.count = 1 << 40;
        spec.values.bytes = Sizes::Fixed(64 << 20);
    });
    refused("engine.cores", |spec| spec.engine.cores = 0);
    refused("engine.memory_limit_bytes", |spec| {
        spec.engine.memory_limit_bytes = Some(0)
    });
}

#[test]
fn ends_and_warmups_out_of_bounds_are_refused() {
    refused("phases[1].until", |spec| spec.phases[1].until = Until::default());
    for operations in [0, (1 << 40) + 1] {
        refused("phases[0].until", |spec| {
            spec.phases[0].until.operations = Some(operations)
        });
    }
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused("phases[1].until", |spec| {
            spec.phases[1].until.seconds = Some(seconds)
        });
    }
    for seconds in [-1.0, f64::NAN, f64::INFINITY] {
        refused("phases[1].warmup_seconds", |spec| {
            spec.phases[1].warmup_seconds = seconds
        });
    }
}

#[test]
fn mixes_that_are_no_shares_are_refused() {
    for share in [-0.1, f64::NAN, f64::INFINITY, 1.5] {
        refused("phases[1].groups[0].mix.read_missing", |spec| {
            spec.phases[1].groups[0].mix.read_missing = share;
        });
    }
    refused("phases[1].groups[0].mix", |spec| {
        spec.phases[1].groups[0].mix.read = 0.999_999
    });
    refused("phases[1].groups[0].mix", |spec| {
        spec.phases[1].groups[0].mix.scan = 0.000_001
    });
    refused("phases[1].groups[0].mix", |spec| {
        spec.phases[1].groups[0].mix = Mix::default()
    });
    let mut thirds = good();
    thirds.phases[1].groups[0].mix = Mix {
        read: 1.0 / 3.0,
        scan: 1.0 / 3.0,
        update: 1.0 / 3.0,
        ..Mix::default()
    };
    assert_eq!(thirds.check(), Ok(()), "rounding is no error");
}

#[test]
fn loads_and_distributions_out_of_bounds_are_refused() {
    for callers in [0, 4097] {
        refused("phases[1].groups[0].load", |spec| {
            spec.phases[1].groups[0].load = Load::Closed { callers };
        });
    }
    for rate in [0.0, -5.0, f64::NAN, f64::INFINITY, 1e10, 1e-9] {
        refused("phases[1].groups[1].load", |spec| {
            spec.phases[1].groups[1].load = Load::Open {
                callers: 1,
                rate,
                arrival: Arrival::Poisson,
            };
        });
    }
    for theta in [0.0, -1.0, 4.1, f64::NAN] {
        for distribution in [
            Distribution::Zipfian { theta },
            Distribution::ScrambledZipfian { theta },
            Distribution::Latest { theta },
        ] {
            refused("phases[1].groups[0].distribution", |spec| {
                spec.phases[1].groups[0].distribution = distribution;
            });
        }
    }
    for (keys, operations, path) in [
        (0.0, 0.5, ""),
        (1.1, 0.5, ""),
        (f64::NAN, 0.5, ""),
        (0.5, -0.1, ".operations"),
    ] {
        refused(&format!("phases[1].groups[0].distribution{path}"), |spec| {
            spec.phases[1].groups[0].distribution = Distribution::Hotspot { keys, operations };
        });
    }
    for sizes in [
        Sizes::Fixed(0),
        Sizes::Uniform {
            min: 1,
            max: 2_000_000,
        },
        Sizes::Zipfian { min: 9, max: 8 },
    ] {
        refused("phases[1].groups[0].scan_entries", |spec| {
            spec.phases[1].groups[0].scan_entries = sizes;
        });
    }
}

#[test]
fn a_spec_that_reads_what_nothing_surely_loaded_is_refused() {
    let path = "phases[1].groups[0].mix";
    refused(path, |spec| {
        spec.phases[0].until.operations = Some(spec.keys.count - 1)
    });
    refused(path, |spec| spec.phases[0].until.seconds = Some(1e6));
    refused(path, |spec| {
        spec.phases[0].until = Until {
            operations: None,
            seconds: Some(1e6),
        };
    });
    refused(path, |spec| {
        spec.phases[0].groups[0].mix = Mix {
            insert: 0.5,
            read_missing: 0.5,
            ..Mix::default()
        };
    });
    refused("phases[0].groups[0].mix", |spec| {
        spec.phases.remove(0);
    });
    refused("phases[0].groups[1].mix", |spec| {
        let readers = spec.phases[1].groups[0].clone();
        spec.phases[0].groups.push(readers);
    });
    let mut misses = good();
    misses.phases.remove(0);
    misses.phases[0].groups.truncate(1);
    misses.phases[0].groups[0].mix = Mix {
        read_missing: 1.0,
        ..Mix::default()
    };
    assert_eq!(misses.check(), Ok(()), "misses need nothing loaded");
}

#[test]
fn text_that_is_no_spec_is_refused_with_its_line() {
    let text = include_str!("../../specs/example.toml");
    let unknown = text.replace("compressible =", "compressable =");
    let words = Spec::parse(&unknown).unwrap_err().to_string();
    let line = unknown
        .lines()
        .position(|line| line.starts_with("compressable"))
        .unwrap()
        + 1;
    assert!(words.contains(&format!("line {line}, column 1")), "{words}");
    assert!(words.contains("compressable"), "{words}");
    let words = Spec::parse("name = \"a\"\nrepeats = [").unwrap_err().to_string();
    assert!(words.contains("line 2"), "{words}");
    let words = Spec::parse(&text.replace("read = 0.7", "read = 0.8"))
        .unwrap_err()
        .to_string();
    assert!(
        words.starts_with("phases[1].groups[0].mix: the shares sum to 1.1"),
        "{words}"
    );
}

#[test]
fn every_spec_in_the_repository_is_read_and_right() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/specs");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let spec = Spec::parse(&std::fs::read_to_string(&path).unwrap());
            let spec = spec.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(path.file_stem().unwrap().to_str(), Some(&spec.name[..]));
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} specs in {directory}");
}

#[test]
fn every_preset_is_right_and_survives_being_written_as_toml_and_json() {
    let small = Scale {
        entries: 1,
        seconds: 0.1,
        callers: 1,
        ..Scale::default()
    };
    for scale in [Scale::default(), small] {
        for name in preset_names() {
            let spec = preset(name, &scale).unwrap_or_else(|| panic!("{name} is listed"));
            assert_eq!(spec.check(), Ok(()), "{name}");
            assert_eq!(spec.name, name);
            assert_eq!(
                Spec::parse(&toml::to_string(&spec).unwrap()),
                Ok(spec.clone()),
                "{name}"
            );
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec, "{name}");
        }
    }
    let mut names: Vec<_> = preset_names().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names.len(),
        preset_names().count(),
        "no two presets have one name"
    );
}

#[test]
fn what_is_no_preset_is_none() {
    for name in [
        "",
        "ycsb-",
        "ycsb-g",
        "ycsb-ab",
        "ycsba",
        "fill",
        "durable-put-1",
        "point",
    ] {
        assert_eq!(preset(name, &Scale::default()), None, "{name:?}");
    }
}

#[test]
fn the_presets_do_what_they_are_known_for() {
    let scale = Scale::default();
    let phase = |name: &str, at: usize| preset(name, &scale).unwrap().phases[at].clone();
    let ycsb = preset("ycsb", &scale).unwrap();
    let order: Vec<_> = ycsb.phases.iter().map(|phase| &phase.name[..]).collect();
    assert_eq!(order, ["load", "a", "b", "c", "f", "d", "e"]);
    let d = &phase("ycsb-d", 1).groups[0];
    assert_eq!((d.mix.read, d.mix.insert), (0.95, 0.05));
    assert_eq!(d.distribution, Distribution::Latest { theta: 0.99 });
    assert_eq!(
        phase("ycsb-e", 1).groups[0].scan_entries,
        Sizes::Uniform { min: 1, max: 100 }
    );
    assert_eq!(phase("fillsync", 0).groups[0].durability, Durability::Sync);
    assert_eq!(phase("fillsync", 0).until.operations, Some(1000));
    let writing = phase("readwhilewriting", 1);
    assert_eq!(
        (writing.groups[0].mix.read, writing.groups[1].mix.update),
        (1.0, 1.0)
    );
    assert_eq!(writing.groups[1].load.callers(), 1);
    let table = preset("table", &scale).unwrap();
    let order: Vec<_> = table.phases.iter().map(|phase| &phase.name[..]).collect();
    let expected = [
        "load",
        "point-read-2",
        "point-read-32",
        "point-read-128",
        "cache-read",
        "misses",
        "scan",
        "read-while-writing-2",
        "read-while-writing-32",
    ];
    assert_eq!(order, expected);
    let puts = preset("durable-put", &scale).unwrap().phases;
    let callers: Vec<_> = puts[1..]
        .iter()
        .map(|phase| phase.groups[0].load.callers())
        .collect();
    assert_eq!(callers, [1, 16, 64]);
    assert!(
        puts[1..]
            .iter()
            .all(|phase| phase.groups[0].durability == Durability::Sync)
    );
}
