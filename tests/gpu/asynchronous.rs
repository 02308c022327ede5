//! Async forms: the same bits as the blocking forms, from futures that may go to other threads.

use crate::device::{VARIANTS, open_uncounted, pipelines};
use qmatmul::check::{activations, random_tensor};
use qmatmul::error::{Error, Result};
use qmatmul::gpu::{Layer, Upload};
use qmatmul::{Linear, Lora, MatmulOptions, Options, PackedTensor, Recipe, Runtime, Weights, format, wgpu};
use std::future::Future;
use std::ops::Range;
use std::task::{Context, Waker};

fn tensor(m: usize, k: usize) -> PackedTensor {
    random_tensor("w", format::Q4_0, m, k, 1).expect("k is a multiple of 32")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Compiles if each future is `Send`; those of the second list own what they work with, so that a
/// host can spawn them.
#[allow(dead_code)]
mod futures {
    use super::*;

    fn send<T>(_: impl Future<Output = Result<T>> + Send) {}
    fn spawned<T>(_: impl Future<Output = Result<T>> + Send + 'static) {}

    fn those_that_borrow(r: &Runtime, w: &Weights, x: &[f32], recipe: &Recipe, buffer: &wgpu::Buffer) {
        send(r.matmul_async(w, x));
        send(r.dequantize_async(w));
        send(r.get_rows_async(w, &[0]));
        send(r.upload_with_async(
            &tensor(1, 32),
            Upload { progress: Some(&mut |_, _| ()), ..Upload::default() },
        ));
        send(r.encode_async("e", [1, 32], x, recipe));
        send(r.encode_async("e", [1, 32], buffer, recipe));
    }

    fn those_that_can_be_spawned(
        (r, w, layer): (&Runtime, &Weights, &Layer),
        (packed, linear): (&PackedTensor, &Linear),
        (x, rows): (&[f32], Range<usize>),
        options: &MatmulOptions,
    ) {
        spawned(Runtime::new_async());
        spawned(Runtime::with_options_async(&Options::default()));
        spawned(r.rebuild_async());
        spawned(r.upload_async(packed));
        spawned(r.upload_with_async(packed, Upload::default()));
        spawned(r.upload_layer_async(linear));
        spawned(r.wait_async());
        spawned(r.warm_up_all_async(&[(w, 1)], options));
        spawned(r.matmul_with_async(w, x, options));
        spawned(r.matmul_experts_async(w, x, &[0], options));
        spawned(r.matmul_layer_async(layer, x, options));
        spawned(r.dequantize_rows_async(w, rows));
    }
}

#[test]
fn results_are_those_of_the_blocking_forms() {
    let _stated = pipelines(25);
    let runtime = VARIANTS[0].runtime();
    let packed = tensor(64, 96);
    let x = activations(3 * 96, 2);
    pollster::block_on(async {
        let w = runtime.upload_async(&packed).await.expect("small");
        assert_eq!(runtime.dequantize(&w).expect("small"), packed.dequantize());
        for kind in ["f32", "q8"] {
            let options = MatmulOptions::with(kind.parse().expect("a kind of activations"));
            runtime.warm_up_all_async(&[(&w, 3)], &options).await.expect("compiles");
            let y = runtime.matmul_with_async(&w, &x, &options).await.expect("small");
            assert_eq!(bits(&y), bits(&runtime.matmul_with(&w, &x, &options).expect("small")), "{kind}");
        }
        let rows = runtime.dequantize_rows_async(&w, 7..9).await.expect("rows exist");
        assert_eq!(bits(&rows), bits(&runtime.dequantize_rows(&w, 7..9).expect("rows exist")));
        runtime.wait_async().await.expect("the device works");
    });
}

#[test]
fn experts_layers_and_encoders_give_the_same() {
    let _stated = pipelines(25);
    let runtime = VARIANTS[0].runtime();
    let (x, exact) = (activations(2 * 64, 2), MatmulOptions::default());
    let f32s = |name: &str, m: usize, k: usize| random_tensor(name, format::F32, m, k, 3).expect("any shape");
    let lora = Lora::new(f32s("a", 4, 64), f32s("b", 32, 4), 0.5).expect("rank 4");
    let linear = Linear::new(tensor(32, 64)).with_adapter(lora).expect("it fits");
    pollster::block_on(async {
        let options = Upload { experts: 4, ..Upload::default() };
        let stack = runtime.upload_with_async(&tensor(32, 64), options).await.expect("small");
        let experts = [3, 0, 1, 1];
        let y = runtime.matmul_experts_async(&stack, &x, &experts, &exact).await.expect("experts exist");
        assert_eq!(bits(&y), bits(&runtime.matmul_experts(&stack, &x, &experts, &exact).expect("they do")));
        let layer = runtime.upload_layer_async(&linear).await.expect("small");
        let y = runtime.matmul_layer_async(&layer, &x, &exact).await.expect("small");
        let again = runtime.upload_layer(&linear).expect("small");
        assert_eq!(bits(&y), bits(&runtime.matmul_layer(&again, &x, &exact).expect("small")));
        for format in [format::NF4, format::Q8_0] {
            let recipe = Recipe::new(format);
            let packed = runtime.encode_async("e", [2, 64], &x, &recipe).await.expect("finite");
            assert_eq!(packed.parts(), runtime.encode("e", [2, 64], &x, &recipe).expect("finite").parts());
        }
    });
}

#[test]
fn a_runtime_is_opened_and_rebuilt() {
    let _stated = pipelines(5);
    let options = VARIANTS[0].options();
    pollster::block_on(async {
        let runtime = Runtime::with_options_async(&options).await.expect("the adapter of the tests");
        assert_eq!(format!("{:?}", runtime.caps()), format!("{:?}", open_uncounted(&options).caps()));
        let best = Runtime::new_async().await.expect("the adapter of the tests");
        assert_eq!(best.adapter().name, Runtime::new().expect("the same").adapter().name);
        let again = runtime.rebuild_async().await.expect("the adapter is still there");
        assert_eq!(format!("{:?}", again.caps()), format!("{:?}", runtime.caps()));
        let missing = Options { select: qmatmul::gpu::Select::Number(usize::MAX), ..options.clone() };
        let error = Runtime::with_options_async(&missing).await.map(drop).expect_err("none");
        assert!(matches!(error, Error::NoAdapter(_)), "{error}");
        let host = crate::device::on_a_host_device();
        let error = host.rebuild_async().await.map(drop).expect_err("the host's");
        assert!(matches!(error, Error::Argument(_)), "{error}");
    });
}

#[test]
fn errors_are_those_of_the_blocking_forms() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&tensor(8, 64)).expect("small");
    let options = MatmulOptions::default();
    pollster::block_on(async {
        let pairs = [
            (runtime.matmul_with_async(&w, &[1.0; 63], &options).await, runtime.matmul(&w, &[1.0; 63])),
            (runtime.dequantize_rows_async(&w, 3..9).await, runtime.dequantize_rows(&w, 3..9)),
            (
                runtime.matmul_experts_async(&w, &[1.0; 64], &[7], &options).await,
                runtime.matmul_experts(&w, &[1.0; 64], &[7], &options),
            ),
        ];
        for (got, want) in pairs {
            let [got, want] = [got, want].map(|result| result.expect_err("it does not fit").to_string());
            assert_eq!(got, want);
        }
        let seven = Upload { experts: 7, ..Upload::default() };
        let error = runtime.upload_with_async(&tensor(8, 64), seven).await.map(drop).expect_err("8 of 7");
        assert!(matches!(&error, Error::Argument(text) if text.contains("8 rows")), "{error}");
    });
}

#[test]
fn an_async_upload_reports_progress_and_ends_when_it_is_dropped() {
    let _stated = pipelines(5);
    let runtime = crate::device::open(&VARIANTS[0].options());
    let packed = tensor(20_000, 1024);
    let mut seen = vec![];
    let mut progress = |done, total| seen.push((done, total));
    let options = Upload { progress: Some(&mut progress), ..Upload::default() };
    let w = pollster::block_on(runtime.upload_with_async(&packed, options)).expect("12 MB");
    assert!(seen.len() > 1 && seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&(w.device_bytes(), w.device_bytes())));
    assert_eq!(bits(&runtime.dequantize_rows(&w, 19_998..20_000).expect("rows exist")), {
        bits(&packed.select_rows(&[19_998, 19_999]).expect("rows exist").dequantize())
    });
    let used = runtime.memory_used();
    let mut future = Box::pin(runtime.upload_async(&packed));
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(future);
    let start = std::time::Instant::now();
    while runtime.memory_used() != used {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "its memory is not freed");
        std::thread::yield_now();
    }
}
