//! Planted mistakes: each is put into the WGSL that the device compiles, and cells of the gpu lane
//! must fail for it. What finds nothing here would find nothing in a kernel that somebody breaks.

use crate::cells::{LAYOUTS, layout_cells};
use crate::common::report;
use crate::device::{VARIANTS, Variant, open_changed, pipelines, side_by_side};
use crate::{grid, hub, lora};
use qmatmul::format::{self, Format};
use qmatmul::{MatmulOptions, Options, Runtime};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cells of the lane for one runtime: the line of the first that fails.
type Cells = fn(&Variant, &Runtime) -> Option<String>;

struct Mistake {
    name: &'static str,
    /// Kernels that it is planted in: those whose names begin so.
    kernel: &'static str,
    /// What is correct, and what stands there instead. A shader has some of them or none.
    plants: &'static [(&'static str, &'static str)],
    cells: Cells,
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "the last chunk is dropped",
        kernel: "",
        plants: &[("params.split_chunks, last_chunk())", "params.split_chunks, last_chunk() - 1u)")],
        cells: |variant, runtime| shapes(variant, runtime, "Q4_0"),
    },
    Mistake {
        name: "a codebook's last entry is the one before",
        kernel: "",
        plants: &[
            ("sixteen[i] = bitcast<f32>(book[i]);", "sixteen[i] = bitcast<f32>(book[min(i, 14u)]);"),
            (
                "vec2<u32>(book[i & 15u], book[i >> 4u])",
                "vec2<u32>(book[min(i & 15u, 14u)], book[min(i >> 4u, 14u)])",
            ),
            ("book[8u + (lane & 7u)]", "book[8u + min(lane & 7u, 6u)]"),
        ],
        cells: |variant, runtime| decoder(variant, runtime, "NF4"),
    },
    Mistake {
        name: "a scale loses four bits",
        kernel: "",
        plants: &[
            (
                "let d = f16_of(r.d, chunk);",
                "let d = bitcast<f32>(bitcast<u32>(f16_of(r.d, chunk)) & 0xfffe0000u);",
            ),
            ("let d = half_of(s, k);", "let d = bitcast<f32>(bitcast<u32>(half_of(s, k)) & 0xfffe0000u);"),
        ],
        cells: |variant, runtime| decoder(variant, runtime, "Q4_0"),
    },
    Mistake {
        name: "the factor of a row is ignored",
        kernel: "",
        plants: &[
            (" * row_factor(t.base + t.row + row)", ""),
            ("let four = weights[i] * factor;", "let four = weights[i];"),
        ],
        cells: |_, runtime| hub::factors(runtime),
    },
    Mistake {
        name: "a minimum is ignored",
        kernel: "",
        plants: &[("-(dm.y * f32(i32(sc >> 8u)))", "0.0 * dm.y")],
        cells: |variant, runtime| decoder(variant, runtime, "Q4_K"),
    },
    Mistake {
        name: "the last row repeats the one before",
        kernel: "",
        plants: &[("min(t.row + i, params.rows - 1u)", "min(t.row + i, max(params.rows, 2u) - 2u)")],
        cells: |variant, runtime| shapes(variant, runtime, "Q4_0"),
    },
    Mistake {
        name: "a token goes to the expert beside its own",
        kernel: "",
        plants: &[("routes[at] - params.expert_begin", "(routes[at] ^ 1u) - params.expert_begin")],
        cells: |variant, runtime| grid::expert_cells(variant, runtime, row("Q4_K")).flatten().next(),
    },
    Mistake {
        name: "the last row keeps what was there",
        kernel: "",
        plants: &[("if (t.row + row < params.rows &&", "if (t.row + row + 1u < params.rows &&")],
        cells: |variant, runtime| shapes(variant, runtime, "Q4_0"),
    },
    Mistake {
        name: "a zero loses its sign",
        kernel: "dequantize",
        // By bits: a driver may make of the formula that loses it the one that does not.
        plants: &[(
            "return (quad(q) - vec4<f32>(f32(CODES_CENTER))) * s.x;",
            "let v = (quad(q) - vec4<f32>(f32(CODES_CENTER))) * s.x; \
             return select(v, vec4<f32>(0.0), bitcast<vec4<u32>>(v) == vec4<u32>(0x80000000u));",
        )],
        cells: |variant, runtime| decoder(variant, runtime, "Q4_0"),
    },
    Mistake {
        name: "a zero-point is off by one",
        kernel: "",
        plants: &[(
            "return vec2<f32>(d, bitcast<f32>(word_at(p, 1u, at + 1u)));",
            "return vec2<f32>(d, bitcast<f32>(word_at(p, 1u, at + 1u)) + 1.0);",
        )],
        cells: |variant, runtime| decoder(variant, runtime, "UINT4"),
    },
    Mistake {
        name: "the boundary of a group is shifted by a chunk",
        kernel: "",
        plants: &[("return k / max(GROUP, 1u);", "return (k - min(k, 32u)) / max(GROUP, 1u);")],
        cells: layouts,
    },
    Mistake {
        name: "tokens are four features closer than they are",
        kernel: "",
        plants: &[("col * params.x_stride", "col * (params.x_stride - 4u)")],
        cells: |variant, runtime| shapes(variant, runtime, "Q4_0"),
    },
    Mistake {
        name: "a bias is added twice",
        kernel: "get_rows",
        plants: &[("y[first + column_at(at)] = weight;", "y[first + column_at(at)] = weight + weight;")],
        cells: |variant, runtime| {
            let layer = lora::linear("Q4_0", (70, 256), true, &[]);
            lora::cell(runtime, &layer, 3, &MatmulOptions::default(), variant.name)
        },
    },
    Mistake {
        name: "the last part of k is not added",
        kernel: "reduce_split_k",
        plants: &[("split < params.splits", "split + 1u < params.splits")],
        cells: |variant, runtime| grid::split_cells(variant, runtime, row("Q4_0")).flatten().next(),
    },
    Mistake {
        name: "rounded activations take the scale of the chunk before",
        kernel: "",
        plants: &[
            ("let scale = x_part(start, chunk, 2u);", "let scale = x_part(start, max(chunk, 1u) - 1u, 2u);"),
            (
                "let tail = x_part(starts[c], chunk, X_PARTS - 1u);",
                "let tail = x_part(starts[c], max(chunk, 1u) - 1u, X_PARTS - 1u);",
            ),
        ],
        cells: |variant, runtime| decoder(variant, runtime, "Q4_0"),
    },
];

fn row(name: &str) -> &'static Format {
    format::by_name(name).expect("a format of the table")
}

fn shapes(variant: &Variant, runtime: &Runtime, format: &str) -> Option<String> {
    grid::shape_cells(variant, runtime, row(format)).flatten().next()
}

fn decoder(variant: &Variant, runtime: &Runtime, format: &str) -> Option<String> {
    grid::decoder_cells(variant, runtime, row(format)).flatten().next()
}

fn layouts(variant: &Variant, runtime: &Runtime) -> Option<String> {
    LAYOUTS.iter().find_map(|layout| layout_cells(variant, runtime, "UINT4", layout).0.into_iter().next())
}

/// Plants a mistake into the shaders of one variant: how many have it, and what the cells say of
/// it.
fn planted(mistake: &'static Mistake, variant: &Variant) -> (usize, Option<String>) {
    let planted = Arc::<AtomicUsize>::default();
    let count = planted.clone();
    // Other limits than those of the lane would be other cells: loops are limited where what they
    // split is to be wrong.
    let max_loops = (mistake.kernel == "reduce_split_k").then_some(grid::FEW_LOOPS);
    let options = Options { disk_cache: false, max_loops, ..variant.options() };
    let runtime = open_changed(&options, move |text| {
        let header = format!("// qmatmul: {}", mistake.kernel);
        for (correct, wrong) in mistake.plants {
            if text.starts_with(&header) && text.contains(correct) {
                *text = text.replace(correct, wrong);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let caught = (mistake.cells)(variant, &runtime);
    (planted.load(Ordering::Relaxed), caught)
}

#[test]
fn each_is_caught() {
    let _stated = pipelines(139);
    let (failures, done) = side_by_side(MISTAKES, |mistake| {
        let outcomes = [&VARIANTS[0], &VARIANTS[2]].map(|variant| (variant.name, planted(mistake, variant)));
        let mut failures = vec![];
        if outcomes.iter().all(|(_, (planted, _))| *planted == 0) {
            failures.push(format!("{}: no shader says what it changes", mistake.name));
        }
        for (variant, (planted, caught)) in outcomes {
            match caught {
                Some(line) => eprintln!("{}, {variant}: {line}", mistake.name),
                None if planted > 0 => failures.push(format!("{}: not caught on {variant}", mistake.name)),
                None => (),
            }
        }
        (failures, 1)
    });
    report(&failures, done);
}
