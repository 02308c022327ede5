//! The runtime as a library user meets it: host devices, recording, async, errors as values.

use crate::common::model_path;
use crate::device::{VARIANTS, families, pipelines, read};
use qmatmul::MatmulOptions;
use qmatmul::check::{self, activations, random_tensor};
use qmatmul::error::Error;
use qmatmul::file::{Model, OpenOptions};
use qmatmul::gpu::Upload;
use qmatmul::kernel::reference;
use qmatmul::{Options, PackedTensor, Runtime, format, wgpu};

fn q4_0(m: usize, k: usize) -> PackedTensor {
    random_tensor("w", format::Q4_0, m, k, 1).expect("k is a multiple of 32")
}

fn storage(runtime: &Runtime, elements: usize) -> wgpu::Buffer {
    runtime.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: elements as u64 * 4,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

fn is_send_sync<T: Send + Sync>() {}

#[test]
fn handles_may_go_to_other_threads() {
    is_send_sync::<Runtime>();
    is_send_sync::<qmatmul::Weights>();
    is_send_sync::<Error>();
}

/// A component of a vector that is read by a dot product with a row of the unit matrix makes NaN of
/// its neighbours.
#[test]
fn a_token_that_overflows_spoils_no_other() {
    let _stated = pipelines(25);
    let w = q4_0(64, 64);
    for variant in families() {
        let weights = variant.runtime().upload(&w).expect("small");
        for (kind, n) in [("f32", 8), ("f32", 64), ("q8", 64)] {
            let options = MatmulOptions::with(kind.parse().expect("a kind of activations"));
            let product = |x: &[f32]| variant.runtime().matmul_with(&weights, x, &options).expect("small");
            let (mut x, bad) = (activations(n * 64, 3), n / 2);
            let before = product(&x);
            x[bad * 64..][..64].iter_mut().for_each(|v| *v = v.signum() * 3e38);
            let after = product(&x);
            let name = format!("{}, {kind}, n = {n}", variant.name);
            assert!(after[bad * 64..][..64].iter().any(|y| !y.is_finite()), "{name}: nothing overflowed");
            for token in (0..n).filter(|token| *token != bad) {
                let of = |y: &[f32]| y[token * 64..][..64].iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                assert_eq!(of(&after), of(&before), "{name}: token {token}");
            }
        }
    }
}

#[test]
fn recorded_work_chains_without_readback() {
    let _stated = pipelines(10);
    for variant in families() {
        let runtime = variant.runtime();
        let (a, b) = (q4_0(256, 96), q4_0(33, 256));
        let (wa, wb) = (runtime.upload(&a).expect("small"), runtime.upload(&b).expect("small"));
        let n = 3;
        let x = activations(n * 96, 2);
        let (bx, by, bz) = (storage(runtime, n * 96), storage(runtime, n * 256), storage(runtime, n * 33));
        runtime.queue().write_buffer(&bx, 0, &x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        let mut encoder = runtime.device().create_command_encoder(&Default::default());
        runtime.record_matmul(&mut encoder, &wa, &bx, &by, n).expect("fits");
        runtime.record_matmul(&mut encoder, &wb, &by, &bz, n).expect("fits");
        runtime.queue().submit([encoder.finish()]);
        let y = read(runtime, &by);
        let want = reference::matmul(&b, &y).expect("shapes fit");
        let comparison = check::compare(&read(runtime, &bz), &want, check::NMSE_F32);
        assert!(comparison.passed, "{}: {comparison}", variant.name);
    }
}

#[test]
fn recording_into_a_buffer_that_is_too_small_is_an_error() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&q4_0(64, 64)).expect("small");
    let (x, y) = (storage(runtime, 2 * 64), storage(runtime, 2 * 64 - 1));
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    let error = runtime.record_matmul(&mut encoder, &w, &x, &y, 2).expect_err("y is one element short");
    let text = error.to_string();
    assert!(matches!(error, Error::Shape { .. }) && text.contains("512") && text.contains("508"), "{text}");
    let error = runtime.record_matmul(&mut encoder, &w, &x, &y, usize::MAX).expect_err("absurd n");
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

#[test]
fn a_device_of_the_host_serves_as_well() {
    let _stated = pipelines(10);
    let runtime = crate::device::on_a_host_device();
    assert_eq!(runtime.caps().subgroup, None);
    let packed = q4_0(70, 256);
    for outcome in check::tensor(&runtime, &packed, &[1, 12], &MatmulOptions::default(), 1).expect("small") {
        assert!(outcome.comparison.passed, "{}: {}", outcome.operation, outcome.comparison);
    }
}

#[test]
fn async_twins_give_the_same() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&q4_0(40, 64)).expect("small");
    let x = activations(2 * 64, 1);
    let (y, all, rows) = pollster::block_on(async {
        let y = runtime.matmul_async(&w, &x).await.expect("small");
        let all = runtime.dequantize_async(&w).await.expect("small");
        (y, all, runtime.get_rows_async(&w, &[39, 0, 39]).await.expect("rows exist"))
    });
    assert_eq!(y, runtime.matmul(&w, &x).expect("small"));
    assert_eq!(all, runtime.dequantize(&w).expect("small"));
    assert_eq!(rows, [&all[39 * 64..], &all[..64], &all[39 * 64..]].concat());
}

#[test]
fn upload_reports_progress_to_the_end() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let packed = q4_0(20_000, 1024);
    let mut seen = vec![];
    let mut progress = |done, total| seen.push((done, total));
    let options = Upload { progress: Some(&mut progress), ..Upload::default() };
    let w = runtime.upload_with(&packed, options).expect("12 MB");
    assert!(seen.len() > 1 && seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&(w.device_bytes(), w.device_bytes())));
    assert!(w.device_bytes() >= packed.data().len() as u64);
}

#[test]
fn non_finite_scales_are_found_on_the_host() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let good = q4_0(8, 64);
    let mut bytes = good.data().to_vec();
    for row in [5, 6] {
        bytes[row * good.format().row_bytes(good.cols()).expect("whole blocks") + 18..][..2]
            .copy_from_slice(&0x7c01u16.to_le_bytes()); // NaN
    }
    let bad = PackedTensor::new("bad", good.format(), 8, 64, bytes).expect("the shape is right");
    match runtime.upload(&bad).err() {
        Some(Error::NonFinite { what, count: 2, first: 5 }) => assert!(what.contains("`bad`"), "{what}"),
        other => panic!("{other:?}"),
    }
    let allowed = Upload { allow_non_finite: true, ..Upload::default() };
    let w = runtime.upload_with(&bad, allowed).expect("allowed");
    let y = runtime.matmul(&w, &activations(64, 1)).expect("small");
    assert!(y[..5].iter().chain(&y[7..]).all(|v| v.is_finite()), "rows without NaN stay clean: {y:?}");
}

/// Scales of their own tensors, double quantized ones, and outlier columns: an upload refuses them
/// as the host's check does.
#[test]
fn scales_in_parts_that_are_not_finite_are_refused() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    for (file, part) in [
        ("golden/bnb/nf4.b64.dq.safetensors", "packed.weight.nested_absmax"),
        ("golden/int8/edge.safetensors", "packed.SCB"),
    ] {
        let path = crate::common::path(file);
        let mut bytes = std::fs::read(&path).expect("a golden file");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a golden file");
        let at = tensors.tensor(part).expect("a part").data().as_ptr() as usize - bytes.as_ptr() as usize;
        bytes[at..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        let model = Model::from_bytes("lie.safetensors", bytes).expect("lengths are right");
        let packed = model.find("packed").and_then(|info| model.tensor(info)).expect("lengths are right");
        assert!(packed.check_finite().is_err(), "{file}");
        let error = runtime.upload(&packed).map(drop).expect_err("infinite scales");
        assert!(matches!(error, Error::NonFinite { .. }), "{file}: {error}");
    }
}

#[test]
fn activations_are_checked() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&q4_0(8, 64)).expect("small");
    let mut x = vec![1.0; 2 * 64];
    (x[70], x[99]) = (f32::INFINITY, f32::NAN);
    let error = runtime.matmul(&w, &x).expect_err("not finite");
    assert!(matches!(error, Error::NonFinite { count: 2, first: 70, .. }), "{error}");
    let error = runtime.matmul(&w, &x[..100]).expect_err("not a whole column");
    assert!(error.to_string().contains("64") && error.to_string().contains("100"), "{error}");
    let error = runtime.get_rows(&w, &[0, 8]).expect_err("row 8 of 8");
    assert!(error.to_string().contains("below 8, got 8"), "{error}");
    let error = runtime.dequantize_rows(&w, 3..9).expect_err("row 8 of 8");
    assert!(error.to_string().contains("3..9"), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_both_numbers() {
    let format = format::Q6_K;
    let error = PackedTensor::new("odd", format, 2, 300, vec![]).expect_err("300 is no multiple of 256");
    assert!(error.to_string().contains("256") && error.to_string().contains("300"), "{error}");
    let error = PackedTensor::new("short", format, 2, 256, vec![0; 419]).expect_err("one byte short");
    assert!(error.to_string().contains("420") && error.to_string().contains("419"), "{error}");
    let error = PackedTensor::new("huge", format, usize::MAX, 256, vec![]).expect_err("overflow");
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

#[test]
fn weights_of_another_runtime_are_refused() {
    let _stated = pipelines(5);
    let (a, b) = (VARIANTS[0].runtime(), VARIANTS[2].runtime());
    let w = a.upload(&q4_0(8, 64)).expect("small");
    let refused =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::Argument(_))), "{result:?}");
    refused(b.matmul(&w, &[1.0; 64]).map(drop));
    refused(b.dequantize(&w).map(drop));
    refused(b.warm_up(&w, 1));
    refused(b.time_matmul(std::slice::from_ref(&w), 1, &MatmulOptions::default(), 0.0).map(drop));
    let (x, y) = (storage(b, 64), storage(b, 64));
    refused(b.record_matmul(&mut b.device().create_command_encoder(&Default::default()), &w, &x, &y, 1));
}

#[test]
fn misuse_is_an_error_and_leaves_the_runtime_usable() {
    let _stated = pipelines(5);
    let runtime = &crate::device::open(&VARIANTS[0].options());
    let w = runtime.upload(&q4_0(64, 64)).expect("small");
    let x = [1.0; 64];
    let y = runtime.matmul(&w, &x).expect("small");
    for name in ["dequantize", "get_rows"] {
        let error = runtime
            .matmul_with(
                &w,
                &x,
                &MatmulOptions { kernel: qmatmul::kernel::by_name(name), ..MatmulOptions::default() },
            )
            .expect_err("not a matmul");
        assert!(matches!(error, Error::Argument(_)), "{error}");
    }
    let same = storage(runtime, 64);
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    assert!(runtime.record_matmul(&mut encoder, &w, &same, &same, 1).is_err());
    assert!(runtime.time_matmul(&[], 1, &MatmulOptions::default(), 0.1).is_err());
    assert!(
        runtime
            .time_matmul(std::slice::from_ref(&w), usize::MAX / 8, &MatmulOptions::default(), 0.1)
            .is_err()
    );
    assert!(q4_0(4, 32).select_rows(&[4]).is_err());
    // An error of the host's own, on the same device, which no scope catches: the next call reports
    // it, once.
    let _ = runtime.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 16,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE,
        mapped_at_creation: false,
    });
    assert!(matches!(runtime.matmul(&w, &x), Err(Error::Gpu { .. })));
    assert_eq!(runtime.matmul(&w, &x).expect("still usable"), y);
}

#[test]
fn the_reference_gives_the_same_bits_on_any_number_of_threads() {
    let (w, x) = (q4_0(301, 1024), activations(3 * 1024, 6));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| reference::matmul(&w, &x)).expect("shapes fit")
    };
    assert_eq!(on(1), on(7));
}

/// A real tensor in a buffer above one binding, at the adapter's own limits.
#[test]
fn a_matrix_above_the_binding_limit() {
    let _stated = pipelines(5);
    let runtime = crate::device::open(&Options { max_binding: Some(128 << 20), ..VARIANTS[0].options() });
    let (m, k) = (31_000, 8192);
    let packed = q4_0(m, k);
    let w = runtime.upload(&packed).expect("143 MB");
    assert_eq!(w.shard_count(), 2);
    let x = activations(k, 5);
    let comparison = check::matmul(&runtime, &packed, &w, &x, &MatmulOptions::default()).expect("fits");
    assert!(comparison.passed, "{comparison}");
    let rows = [0, (m / 2) as u32, m as u32 - 1];
    let got = runtime.get_rows(&w, &rows).expect("rows exist");
    let want = packed.select_rows(&rows.map(|r| r as usize)).expect("rows exist").dequantize();
    assert_eq!(got, want);
}

#[test]
fn the_readme_example() {
    let _stated = pipelines(5);
    let model = Model::open(model_path(), &OpenOptions::default()).expect("the demo file");
    let packed = model.find("blk.0.ffn_up").and_then(|info| model.tensor(info)).expect("a real tensor");
    let runtime = VARIANTS[0].runtime();
    let weights = runtime.upload(&packed).expect("small");
    runtime.warm_up(&weights, 8).expect("compiles");
    let y = runtime.matmul(&weights, &vec![1.0; 8 * weights.cols()]).expect("small");
    assert_eq!(y.len(), 8 * weights.rows());
}

/// A file of a hundred bytes may claim so many rows.
#[test]
fn rows_without_columns_take_no_time() {
    let _stated = pipelines(5);
    let start = std::time::Instant::now();
    let runtime = VARIANTS[0].runtime();
    let f32 = format::F32;
    let rows = u32::MAX as usize;
    let w =
        runtime.upload(&PackedTensor::new("w", f32, rows, 0, vec![]).expect("no bytes")).expect("nothing");
    assert!(runtime.dequantize(&w).expect("nothing").is_empty());
    assert!(runtime.matmul(&w, &[]).expect("nothing").is_empty());
    let packed = PackedTensor::new("w", f32, rows, 0, vec![]).expect("no bytes");
    let outcomes = check::tensor(runtime, &packed, &[1, 8], &MatmulOptions::default(), 1).expect("nothing");
    assert!(outcomes.len() == 1 && outcomes[0].comparison.passed, "there is nothing to multiply");
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
}
