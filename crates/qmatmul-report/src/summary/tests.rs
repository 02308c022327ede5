use super::*;
use serde_json::json;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(fields) = value else { panic!("an object: {value}") };
    fields
}

fn record(name: &str, command: &str, device: &Value, rows: Vec<Value>) -> Record {
    let head = json!({
        "schema": 1,
        "qmatmul": { "version": "0.1.0", "commit": "0123456789ab", "wgpu": "30.0.1" },
        "device": device,
        "command": command,
        "date": "2026-12-01T06:00:00Z",
    });
    let verdict = json!({ "ok": true, "interrupted": false, "text": "all: GPU", "checks": rows.len() });
    Record {
        name: name.into(),
        head: object(head),
        rows: rows.into_iter().map(object).collect(),
        verdict: Some(object(verdict)),
    }
}

fn gpu(name: &str) -> Value {
    json!({ "name": name, "backend": "Vulkan", "driver": "NVIDIA 550.54", "kind": "DiscreteGpu" })
}

/// A row of `bench`, 4096 × 14336, by its packed bytes, at 4,000 GB/s of copies.
fn case((format, packed): (&str, f64), activations: &str, n: u64, micros: f64) -> Value {
    let gb_per_s = packed / micros * 1e-3;
    json!({
        "format": format, "activations": activations, "op": if n == 1 { "gemv" } else { "gemm" },
        "m": 4096, "k": 14336, "n": n, "median_us": micros, "weight_gb_per_s": gb_per_s,
        "copy_fraction": gb_per_s / 4000.0, "tflop_per_s": 2e-6 * 4096.0 * 14336.0 * n as f64 / micros,
        "copies": if n == 1 { 11 } else { 1 }, "kernel": "gemv:4x64", "ok": true,
    })
}

const Q4_0: (&str, f64) = ("Q4_0", 33_030_144.0);
const Q4_K: (&str, f64) = ("Q4_K", 33_030_144.0);
const IQ3_S: (&str, f64) = ("IQ3_S", 25_231_360.0);
const F16: (&str, f64) = ("F16", 117_440_512.0);

fn bench(name: &str, rows: Vec<Value>) -> Record {
    record("bench", "qmatmul bench -f jsonl", &gpu(name), rows)
}

fn peak(name: &str, kinds: &[(&str, f64)]) -> Record {
    let bandwidth = json!({ "figure": "copy", "mib": 1024, "value": 4000.0, "unit": "GB/s" });
    let kinds = kinds
        .iter()
        .map(|(kind, value)| json!({ "figure": kind, "mib": null, "value": value, "unit": "Tops/s" }));
    record("peak", "qmatmul peak -f jsonl", &gpu(name), [bandwidth].into_iter().chain(kinds).collect())
}

/// The row of a section whose first cell begins so, as people read it.
fn row(records: &[Record], title: &str, begins: &str) -> Vec<String> {
    let section = sections(records).into_iter().find(|section| section.title == title).expect(title);
    let texts = section.rows.iter().map(|row| row.iter().map(Cell::text).collect::<Vec<_>>());
    assert!(section.rows.iter().all(|row| row.len() == section.columns.len()), "{title}");
    texts.into_iter().find(|row| row[0].starts_with(begins)).unwrap_or_else(|| panic!("{title}: {begins}"))
}

fn goal(records: &[Record], begins: &str) -> [String; 4] {
    row(records, "Goals", begins)[1..].to_vec().try_into().expect("four cells behind the goal")
}

#[test]
fn each_goal_takes_the_cases_that_it_is_about() {
    // 33 MB in 10 µs are 3,303 GB/s, 82.6 % of the copies; in 11 µs 75.1 %.
    let rows = vec![
        case(Q4_0, "f32", 1, 10.0),
        case(Q4_K, "f32", 1, 11.0),
        case(IQ3_S, "f32", 1, 11.0),
        case(F16, "f32", 1, 100.0),
        case(Q4_0, "f32", 8, 19.0),
        case(Q4_K, "f32", 8, 23.0),
        case(Q4_0, "f32", 512, 600.0),
        case(Q4_0, "q8", 512, 200.0),
        case(Q4_0, "f16", 512, 150.0),
    ];
    let records = [
        peak("NVIDIA H200", &[("f32 fma", 60.0), ("f16 matrices 16x16", 800.0)]),
        bench("NVIDIA H200", rows),
    ];
    let reached = |cases: &str, farthest: &str| [cases, cases, farthest, "reached"].map(str::to_owned);
    let missed =
        |counts: [&str; 2], farthest: &str| [counts[0], counts[1], farthest, "missed"].map(str::to_owned);
    assert_eq!(goal(&records, "n = 1, formats of 4"), reached("1", "Q4_0, 4096 × 14336: 82.6 %"));
    assert_eq!(goal(&records, "n = 1, K"), reached("1", "Q4_K, 4096 × 14336: 75.1 %"));
    assert_eq!(goal(&records, "n = 1, IQ"), missed(["1", "0"], "IQ3_S, 4096 × 14336: 57.3 %"));
    assert_eq!(goal(&records, "n = 1, matrices of 33 MB"), reached("2", "Q4_K, 4096 × 14336: 11.0 µs"));
    assert_eq!(goal(&records, "n = 8"), missed(["2", "1"], "Q4_K, 4096 × 14336, n = 8: 2.09 ×"));
    // 60.1 GFLOP in 150 µs are 401 TFLOP/s.
    assert_eq!(
        goal(&records, "n = 512, f16: 40 % of the measured f16 matrices 16x16"),
        reached("1", "Q4_0, 4096 × 14336, f16, n = 512: 50.1 %")
    );
    assert_eq!(goal(&records, "n = 512: q8"), reached("1", "Q4_0, 4096 × 14336, q8, n = 512: 3.00 ×"));
    assert_eq!(goal(&records, "results")[3], "reached");
    let ratio = row(&records, "Several tokens", "Q4_0");
    assert!(ratio.contains(&"1.90".to_owned()) && ratio.contains(&"600.0".to_owned()), "{ratio:?}");
}

#[test]
fn goals_of_another_device_or_of_caches_are_not_judged() {
    let mut small = case(Q4_0, "f32", 1, 10.0);
    small["copies"] = 7.into();
    let records = [bench("NVIDIA GH200 480GB", vec![small, case(Q4_0, "f32", 512, 2000.0)])];
    assert_eq!(goal(&records, "n = 1, formats of 4"), ["0", "0", "", "not measured"].map(str::to_owned));
    assert_eq!(goal(&records, "n = 512: 40 % of the measured peak")[3], "not measured");
    let goals = &sections(&records)[0];
    assert!(goals.rows.iter().all(|row| !row[0].text().contains("33 MB")), "{goals:?}");
    // Without matrices f32 arithmetic is the peak: 30 of 60 TFLOP/s.
    let records = [&records[..], &[peak("NVIDIA GH200 480GB", &[("f32 fma", 60.0)])]].concat();
    assert_eq!(
        goal(&records, "n = 512: 40 % of the measured f32 fma")[2],
        "Q4_0, 4096 × 14336, n = 512: 50.1 %"
    );
    assert!(!sections(&records)[0].text[0].contains("CPU"));
}

#[test]
fn wrong_results_are_named_and_not_judged() {
    let mut wrong = case(Q4_0, "f32", 1, 1.0);
    wrong["ok"] = false.into();
    let sum = json!({ "tensor": null, "format": "Q8_0", "op": "matmul", "cases": 3, "ok": false });
    let single = json!({ "tensor": "w", "format": "Q8_0", "op": "matmul", "n": 8, "cases": 1, "ok": false, "problem": "nmse" });
    let mut check = record("check", "qmatmul check", &gpu("GPU"), vec![sum, single]);
    check.verdict = None;
    let records = [bench("GPU", vec![wrong, case(Q4_0, "f32", 1, 10.0)]), check];
    let goals = &sections(&records)[0];
    let said: Vec<_> = goals.text.iter().filter(|text| text.starts_with("WRONG")).collect();
    assert_eq!(
        said,
        [
            "WRONG: bench: Q4_0, gemv, f32, gemv:4x64, m = 4096, k = 14336, n = 1",
            "WRONG: check: w, Q8_0, matmul, nmse, n = 8"
        ]
    );
    assert_eq!(
        (goal(&records, "results")[3].as_str(), goal(&records, "n = 1, formats")[0].as_str()),
        ("missed", "1")
    );
    assert_eq!(row(&records, "Records", "check")[2], "killed after 2 rows");
}

#[test]
fn tuning_shows_the_gain_and_what_failed() {
    let trial = |variant: &str, order: u64, micros: Option<f64>, chosen: bool| {
        json!({
            "format": "Q4_0", "activations": "f32", "m": 4096, "k": 14336, "n": 1, "kernel": "gemv", "variant": variant,
            "order": order, "median_us": micros, "chosen": chosen, "ok": micros.is_some(),
            "problem": if micros.is_some() { None } else { Some("compiling: no") },
        })
    };
    let rows = vec![
        trial("2x64", 1, Some(20.0), true),
        trial("4x64", 0, Some(30.0), false),
        trial("8x64", 2, None, false),
    ];
    let records = [record("tune", "qmatmul tune", &gpu("GPU"), rows)];
    let told = row(&records, "Tuning", "Q4_0");
    assert_eq!(told[4..], ["3", "gemv:4x64", "30.0", "gemv:2x64", "20.0", "1.50"].map(str::to_owned));
    let tuning = sections(&records).into_iter().find(|section| section.title == "Tuning").expect("a section");
    assert_eq!(tuning.text, ["Not chosen: gemv:8x64 on Q4_0, 4096 × 14336, n = 1: compiling: no"]);
    // A kernel that is not chosen is no wrong result.
    assert_eq!(goal(&records, "results")[3], "not measured");
}

#[test]
fn a_software_driver_is_called_one() {
    let mut device = gpu("llvmpipe (LLVM 15.0.6, 256 bits)");
    device["kind"] = "Cpu".into();
    let records = [record("bench", "qmatmul bench", &device, vec![case(Q4_0, "f32", 1, 1e4)])];
    assert!(sections(&records)[0].text[0].contains("computes on the CPU"));
}

#[test]
fn folders_are_called_after_adapter_and_driver() {
    for (name, driver, folder) in [
        ("llvmpipe (LLVM 22.1.8, 256 bits)", "llvmpipe Mesa 26.2.6-1 (LLVM 22.1.8)", "llvmpipe-mesa-26.2.6"),
        ("NVIDIA H200", "NVIDIA 550.54.15", "nvidia-h200-550.54.15"),
        (
            "AMD Radeon RX 7900 XTX (RADV NAVI31)",
            "radv Mesa 24.2.8-1ubuntu1~24.04.1",
            "amd-radeon-rx-7900-xtx-radv-mesa-24.2.8",
        ),
        (
            "Intel(R) Arc(tm) A770 Graphics (DG2)",
            "Intel open-source Mesa driver Mesa 25.0.1",
            "intel-arc-a770-graphics-open-source-mesa-driver-25.0.1",
        ),
        ("Apple M1", "", "apple-m1"),
        ("../..", "/", "adapter"),
        ("(", ")", "adapter"),
    ] {
        let device = object(json!({ "name": name, "driver": driver }));
        assert_eq!(folder_name(&device), folder, "{name}, {driver}");
    }
}

#[test]
fn records_of_two_devices_are_told_apart() {
    let [a, b] = ["A", "B"].map(|name| bench(name, vec![]));
    assert_eq!(
        two_devices(&[a.clone(), a.clone(), record("devices", "qmatmul devices", &Value::Null, vec![])]),
        None
    );
    let [first, second] = two_devices(&[a, b]).expect("two");
    assert_eq!([&*first, &*second], ["A (Vulkan, NVIDIA 550.54)", "B (Vulkan, NVIDIA 550.54)"]);
}

#[test]
fn what_was_recorded_first_comes_first() {
    let [mut late, early] =
        ["late", "early"].map(|name| Record { name: name.into(), ..bench("GPU", vec![]) });
    late.head["date"] = "2026-12-01T06:00:01Z".into();
    let sections = sections(&[late, early]);
    let names: Vec<_> = sections.last().expect("records").rows.iter().map(|row| row[0].text()).collect();
    assert_eq!(names, ["early", "late"]);
}
