//! Shaders against Rust: every composed cell validates, translates, and says the same as its
//! configuration.

use super::compose::Access;
use super::compose::{Source, compose};
use super::program::{Dispatch, Element, Planner, Program, Tokens, WeightHandle};
use super::shard::{DeviceLayout, Shard, Stack, Weight, shards};
use super::*;
use crate::format::{self, Codes, FORMATS, Format, Layout};
use crate::gpu::Capability;
use crate::tensor::PackedTensor;
use crate::translate::{Parsed, Target};
use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use rayon::prelude::*;
use std::sync::{Arc, LazyLock};

fn caps(software: bool, subgroup: Option<(u32, u32)>) -> Caps {
    Caps { software, subgroup, max_loops: Some(65_000), ..Caps::everything() }
}

/// Every cell that any device could ask for.
fn cells() -> Vec<(&'static Kernel, KernelConfig, &'static Format)> {
    let mut cells: Vec<(&'static Kernel, KernelConfig, Activations)> = vec![];
    for (kernel, caps, request) in requests() {
        for config in (kernel.configs)(&caps, &request) {
            if !cells.iter().any(|(k, c, _)| k.name == kernel.name && *c == config) {
                cells.push((kernel, config, request.activations));
            }
        }
    }
    // All formats for the first configuration of a kernel that takes such activations in words of
    // such a size, one with a book and one without for the others, one for a kernel that decodes
    // nothing.
    let mut seen = std::collections::HashSet::new();
    let mut all = vec![];
    for (kernel, config, activations) in cells {
        let needs = needs_codes(&config);
        let raw_values = has_part(&config, "weights_values.wgsl");
        let first = seen.insert((kernel.name, activations, needs, raw_values, config.words.path));
        let gathered = has_part(&config, "weights_gathered.wgsl");
        let suits = |f: &&&'static Format| match kernel.operation.decodes() {
            true if gathered => f.name == "INT8",
            true if first => suits(&config, &f.layout(COLS)),
            true if raw_values => f.name == "F16",
            true => ["Q4_0", "IQ4_NL"].contains(&f.name),
            false => f.name == "Q4_0",
        };
        all.extend(FORMATS.iter().filter(suits).map(|f| (kernel, config.clone(), *f)));
    }
    all
}

/// The least [`Codes`] that a configuration can work with.
fn needs_codes(config: &KernelConfig) -> Option<u8> {
    match () {
        _ if has_part(config, "x_digits.wgsl") => Some(Codes::Integers as u8),
        _ if has_part(config, "dot_rows_codes.wgsl") => Some(Codes::Values as u8),
        _ if has_part(config, "weights_raw.wgsl") => Some(Codes::Values as u8),
        _ if has_part(config, "halves_of_codes.wgsl") => Some(Codes::Values as u8),
        _ => None,
    }
}

/// True if a configuration works with weights of this layout.
fn suits(config: &KernelConfig, layout: &Layout) -> bool {
    let raw_values = has_part(config, "weights_values.wgsl");
    needs_codes(config).is_none_or(|n| n <= layout.codes as u8)
        && (!raw_values || layout.format.has_raw_values())
}

fn has_part(config: &KernelConfig, file: &str) -> bool {
    config.parts.iter().any(|p| p.path.ends_with(file))
}

/// Nothing, each capability alone, and each two of them.
fn switched_off() -> Vec<Vec<Capability>> {
    let all = Capability::ALL;
    let pairs = all.iter().enumerate().flat_map(|(i, a)| all[i..].iter().map(|b| vec![*a, *b]));
    std::iter::once(vec![]).chain(pairs).collect()
}

/// Kernels, devices and requests that together need every part of `shaders/lib`.
fn requests() -> Vec<(&'static Kernel, Caps, Problem)> {
    let mut all = vec![];
    for kernel in KERNELS {
        let activations =
            if kernel.activations.is_empty() { &[Activations::F32] } else { kernel.activations };
        for subgroup in [None, Some((4, 4)), Some((8, 8)), Some((8, 32))] {
            for (cols, batch) in [(4096, 1), (4096, 8), (33, 2), (4096, 64)] {
                for &activations in activations {
                    let plain = Problem {
                        rows: 1024,
                        cols,
                        batch,
                        activations,
                        codes: Codes::Integers,
                        looked_up: true,
                        ..Problem::default()
                    };
                    let experts = Problem { experts: true, ..plain };
                    let gathered = Problem { codes: Codes::None, gathered: true, ..plain };
                    let gated_halves = Problem { half: true, silu: true, ..plain };
                    let numbers = Problem { looked_up: false, ..plain };
                    let decoded = Problem { codes: Codes::None, ..numbers };
                    let values = Problem { raw_values: true, ..decoded };
                    let weights = [(numbers, 8), (decoded, 16), (values, 8)];
                    let others = [(plain, 8), (experts, 16), (gathered, 8), (gated_halves, 8)];
                    for (request, edge) in others.into_iter().chain(weights) {
                        if request.gathered && activations != Activations::F32 {
                            continue;
                        }
                        let few = if request.half { 1 } else { 2 };
                        // Two capabilities that are missing say nothing new of how slots are read.
                        for without in switched_off().iter().filter(|w| w.len() <= few) {
                            let mut caps = Caps { cooperative: Some(edge), ..caps(false, subgroup) };
                            without.iter().for_each(|capability| capability.take_out(&mut caps));
                            all.push((*kernel, caps, request));
                        }
                    }
                }
            }
        }
    }
    all
}

fn request(cols: usize, batch: usize) -> Problem {
    Problem { rows: 1024, cols, batch, ..Problem::default() }
}

fn parse(kernel: &Kernel, format: &Format, source: Source) -> Parsed {
    Parsed::new(source).unwrap_or_else(|e| panic!("{} of {}: {e}", kernel.name, format.name))
}

#[test]
fn every_cell_validates_and_needs_what_its_configuration_says() {
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_INT64
        | Capabilities::COOPERATIVE_MATRIX;
    CELLS.par_iter().for_each(|cell| {
        let (name, module) = (cell.name(), &cell.parsed.module);
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(SubgroupOperationSet::all());
        validator.validate(module).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let (entry, workgroup) = (&module.entry_points[0], [cell.config.workgroup, 1, 1]);
        assert_eq!((entry.name.as_str(), entry.workgroup_size), ("main", workgroup), "{name}");
        assert_eq!(workgroup_memory(module), cell.config.memory(&cell.layout), "{name}: workgroup memory");
    });
}

fn workgroup_memory(module: &naga::Module) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("a valid module has a layout");
    let workgroup = |v: &&naga::GlobalVariable| v.space == naga::AddressSpace::WorkGroup;
    module.global_variables.iter().map(|(_, v)| v).filter(workgroup).map(|v| layouter[v.ty].size).sum()
}

/// Each operation has parameters of its own, and the shader says the same of them.
#[test]
fn parameters_are_laid_out_as_in_the_shader() {
    for cell in CELLS.iter() {
        let (name, module) = (cell.name(), &cell.parsed.module);
        let named = |t: &naga::Type| t.name.as_deref() == Some("Params");
        let (_, ty) = module.types.iter().find(|(_, t)| named(t)).expect("Params is declared");
        let naga::TypeInner::Struct { members, span } = &ty.inner else { panic!("{name}: no struct") };
        let words = |ty| module.types[ty].inner.size(module.to_ctx()) as usize / 4;
        let there: Vec<_> = members
            .iter()
            .map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize, words(m.ty)))
            .collect();
        let fields = cell.kernel.params.iter().filter(|field| field.name != "padding");
        let here: Vec<_> = fields.map(|f| (f.name.to_owned(), f.offset, f.words)).collect();
        assert_eq!(here, there, "{name}");
        let end = cell.kernel.params.iter().map(|f| f.offset + 4 * f.words).max().unwrap_or(0);
        assert!(end >= *span as usize, "{name}: {end} bytes for {span}");
    }
}

/// The lines that declare bindings are read as a compiler reads them, and nothing is bound that a
/// shader does not use. The two views of a weight are there for every decoder.
#[test]
fn shaders_use_what_they_bind() {
    for cell in CELLS.iter() {
        let (name, module) = (cell.name(), &cell.parsed.module);
        let mut there = vec![];
        for (handle, v) in module.global_variables.iter() {
            let Some(binding) = &v.binding else { continue };
            let variable = v.name.clone().unwrap_or_default();
            let access = match v.space {
                naga::AddressSpace::Uniform => Access::Uniform,
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                    Access::Write
                }
                _ => Access::Read,
            };
            let is_used = !cell.parsed.info.get_entry_point(0)[handle].is_empty();
            assert!(is_used || ["w", "w4"].contains(&&*variable), "{name}: `{variable}` is not used");
            assert_eq!(binding.group, 0, "{name}");
            there.push(compose::Declared { number: binding.binding, name: variable, access });
        }
        there.sort_by_key(|declared| declared.number);
        assert_eq!(cell.parsed.source.bindings(), there, "{name}");
    }
}

/// Cells whose tensors are laid out in another way than most: other constants, so other shaders.
fn layouts() -> Vec<Layout> {
    use crate::format::recipe::{FourBitConfig, Group, Recipe};
    let weights = vec![0.5; 66 * 4];
    let format = |name: &str| format::by_name(name).expect("a format");
    let mut all = vec![];
    for group in [Group::Tensor, Group::Row, Group::Columns(1), Group::Columns(5), Group::Columns(32)] {
        for name in ["INT8", "INT4", "INT3", "INT2", "UINT8", "UINT4", "UINT3", "UINT2"] {
            let packed = PackedTensor::encode("w", [4, 66], &weights, &Recipe::uniform(format(name), group));
            all.push(packed.expect("finite").layout());
        }
    }
    // Blocks that end at chunks, inside them, inside bytes, and behind rows.
    for (block, cols) in [(32, 64), (64, 32), (64, 66), (64, 33), (4096, 66)] {
        for name in ["NF4", "FP4"] {
            let config = FourBitConfig { block, ..FourBitConfig::default() };
            let recipe = Recipe::four_bit(format(name), config);
            let packed = PackedTensor::encode("w", [4, cols], &weights[..4 * cols], &recipe);
            all.push(packed.expect("finite").layout());
        }
    }
    all
}

/// A composed shader and what it was composed of.
struct Cell {
    kernel: &'static Kernel,
    config: KernelConfig,
    layout: Layout,
    parsed: Parsed,
}

impl Cell {
    fn name(&self) -> String {
        format!("{} of {}", self.kernel.name, self.layout.format.name)
    }
}

/// Every shader that any device could ask for: all of [`cells`], and for other layouts one
/// configuration of the kernels that have an addressing of their own. Parsed once for all tests.
static CELLS: LazyLock<Vec<Cell>> = LazyLock::new(|| {
    let mut seen = std::collections::HashSet::new();
    let mut all = vec![];
    let mut push = |kernel: &'static Kernel, config: KernelConfig, layout: &Layout| {
        let source = compose::compose(kernel, &config, &layout.clone().into());
        if seen.insert(source.text.clone()) {
            all.push((kernel, config, layout.clone(), source));
        }
    };
    let cells = cells();
    for (kernel, config, format) in &cells {
        push(kernel, config.clone(), &format.layout(COLS));
    }
    for layout in layouts() {
        let mut first = std::collections::HashSet::new();
        for (kernel, config, format) in &cells {
            let needs = needs_codes(config);
            let suits = format.name == layout.format.name
                && ["gemv", "gemm", "matmul_software", "dequantize"].contains(&kernel.name)
                && suits(config, &layout)
                && !has_part(config, "weights_gathered.wgsl");
            if suits && first.insert((kernel.name, needs, config.words.path)) {
                push(kernel, config.clone(), &layout);
            }
        }
    }
    let cell = |(kernel, config, layout, source): (&'static Kernel, _, Layout, _)| {
        let parsed = parse(kernel, layout.format, source);
        Cell { kernel, config, layout, parsed }
    };
    all.into_par_iter().map(cell).collect()
});

/// Every composed shader in every language. Where `QMATMUL_SHADERS` names a folder they are left
/// there, for the compilers that `scripts/drivers.sh` runs over them.
#[test]
fn every_cell_translates_to_every_backend() {
    let spirv_val = std::process::Command::new("spirv-val").arg("--version").output().is_ok();
    let folder = std::env::var_os("QMATMUL_SHADERS").map(std::path::PathBuf::from);
    CELLS.par_iter().enumerate().for_each(|(i, cell)| {
        let Cell { kernel, config, layout, parsed } = cell;
        let keep = |extension: &str, code: &[u8]| {
            if let Some(folder) = &folder {
                let path = folder.join(format!("{i:04}.{}.{}.{extension}", kernel.name, layout.format.name));
                std::fs::write(&path, code).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
        };
        keep("wgsl", parsed.source.text.as_bytes());
        for (target, extension) in [(Target::Spirv, "spv"), (Target::Msl, "metal"), (Target::Hlsl, "hlsl")] {
            let name = format!("{} to {target:?}", cell.name());
            let cooperative = config.enables.contains(&"wgpu_cooperative_matrix");
            if cooperative && target == Target::Hlsl {
                continue; // naga has no cooperative matrices there, and wgpu offers none on DX12
            }
            let code = parsed.write(target).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!code.is_empty(), "{name}");
            keep(extension, &code);
            let trusted = parsed.write_trusted(target).unwrap_or_else(|e| panic!("trusted {name}: {e}"));
            assert!(trusted.len() <= code.len(), "trusted {name}");
            // The validator of Debian 12 does not know the capability.
            if target == Target::Spirv && spirv_val && !cooperative {
                validate_spirv(&name, &code);
            }
        }
        match parsed.write(Target::Hlsl51) {
            Ok(code) => keep("hlsl51", &code),
            Err(e) => assert!(beyond_shader_model_5_1(config), "{} to FXC: {e}", cell.name()),
        }
    });
}

/// The lines on which a shader reads or writes a component of a vector at an index that is not
/// constant.
///
/// FXC, which compiles for DirectX 12 wherever there is no DXC, makes a dot product with a row of
/// the unit matrix of such a read: -0 becomes 0, and one value that is not finite makes NaN of its
/// neighbours. In a loop it refuses such a write (X3511).
pub(crate) fn variable_components(parsed: &Parsed) -> Vec<u32> {
    let Parsed { source, module, info } = parsed;
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let entries = module.entry_points.iter().enumerate();
    let entries = entries.map(|(i, entry)| (&entry.function, info.get_entry_point(i)));
    let mut lines = vec![];
    for (function, info) in functions.chain(entries) {
        for (handle, expression) in function.expressions.iter() {
            let naga::Expression::Access { base, .. } = expression else { continue };
            if is_vector(info[*base].ty.inner_with(&module.types), &module.types) {
                lines.push(function.expressions.get_span(handle).location(&source.text).line_number);
            }
        }
    }
    lines
}

/// The same of a shader that is not composed of parts.
fn variable_components_of(text: &str) -> Vec<u32> {
    variable_components(&Parsed::new(Source::of(text)).unwrap_or_else(|e| panic!("{e}")))
}

/// A vector, or a pointer to one.
fn is_vector(ty: &naga::TypeInner, types: &naga::UniqueArena<naga::Type>) -> bool {
    match ty {
        naga::TypeInner::Pointer { base, .. } => is_vector(&types[*base].inner, types),
        naga::TypeInner::ValuePointer { size, .. } => size.is_some(),
        naga::TypeInner::Vector { .. } => true,
        _ => false,
    }
}

#[test]
fn vectors_are_indexed_by_constants() {
    let found: std::collections::BTreeSet<String> = CELLS
        .par_iter()
        .flat_map_iter(|Cell { parsed, .. }| {
            variable_components(parsed).into_iter().map(|line| {
                let (path, line) = parsed.source.locate(line as usize);
                format!("{path}:{line}")
            })
        })
        .collect();
    assert!(found.is_empty(), "components of vectors at indices that are not constant: {found:#?}");
    for edge in [8, 16] {
        assert_eq!(variable_components_of(&compose::cooperative_probe(edge, 64)), [0; 0]);
    }
}

/// What that test must see, planted in a shader that it passes.
#[test]
fn variable_components_of_every_kind_are_found() {
    let kernel = by_name("dequantize").expect("a kernel of the table");
    let config = (kernel.configs)(&caps(false, None), &request(256, 1)).swap_remove(0);
    let text = compose(kernel, &config, &format::Q4_0.layout(COLS).into()).text;
    let at = "    decode_init(lane);\n";
    assert_eq!(text.matches(at).count(), 1);
    let lines = |code: &str| variable_components_of(&text.replace(at, &format!("{code}{at}")));
    for (code, found) in [
        ("let a = vec4<f32>(1.0); let b = a[lane & 3u];", 1),
        ("var a = vec2<i32>(0); let b = a[lane & 1u];", 1),
        ("var a = vec2<i32>(0); a[lane & 1u] += 1;", 1),
        ("var a: array<vec4<f32>, 8>; a[lane & 7u][lane & 3u] = 1.0;", 1),
        ("var a: array<vec4<f32>, 8>; for (var i = 0u; i < 4u; i++) { a[0][i] = 1.0; }", 1),
        ("var a = vec3<u32>(0u); let p = &a; (*p)[group.x] = 1u;", 1),
        ("let b = params.plane_offset[lane & 3u];", 1),
        ("let b = w4[lane][lane & 3u];", 1),
        ("let b = group[grid.x & 1u];", 1),
        ("const TWO = 2u; var a = vec4<f32>(1.0); a[TWO] = a[1]; let b = group[0];", 0),
        ("var a: array<f32, 4>; a[lane & 3u] = 1.0; var b: array<vec4<u32>, 8>; b[lane & 7u].x = 1u;", 0),
    ] {
        assert_eq!(lines(code).len(), found, "{code}");
    }
}

/// Whether only devices with subgroups, f16 or 64-bit integers are offered a configuration: under
/// DirectX 12 those with DXC.
fn beyond_shader_model_5_1(config: &KernelConfig) -> bool {
    let parts = ["reduce_subgroup", "x_quads", "lookup_shuffle", "words_64", "x_share_64"];
    let of_config = config.parts.iter().chain([&config.lookup, &config.words]).map(|part| part.path);
    !config.enables.is_empty() || of_config.into_iter().any(|path| parts.iter().any(|p| path.contains(p)))
}

fn validate_spirv(name: &str, code: &[u8]) {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(code).expect("room in the temporary folder");
    let output = std::process::Command::new("spirv-val")
        .args(["--target-env", "vulkan1.1"])
        .arg(file.path())
        .output()
        .expect("spirv-val ran before");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn errors_are_located_in_the_files() {
    let kernel = by_name("gemm").expect("a kernel of the table");
    let config = (kernel.configs)(&caps(false, None), &request(256, 64)).swap_remove(0);
    let source = compose(kernel, &config, &format::Q4_0.layout(COLS).into());
    let lines: Vec<_> = source.text.lines().collect();
    for (needle, path) in [
        ("struct Params", "lib/product.wgsl"),
        ("fn raw32", "decode/q4_0.wgsl"),
        ("const PITCH", "op/gemm.wgsl"),
    ] {
        let at = lines.iter().position(|l| l.starts_with(needle)).unwrap_or_else(|| panic!("no {needle}"));
        let (file, line) = source.locate(at + 1);
        assert_eq!(file, format!("shaders/{path}"));
        let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
            .expect("readable");
        assert_eq!(text.lines().nth(line - 1), Some(lines[at]), "{file}:{line}");
    }
}

/// Columns of the weights that shaders are composed for.
const COLS: usize = 4096;

/// A weight without a device.
#[derive(Clone, Debug)]
struct Shape {
    layout: DeviceLayout,
    rows: usize,
    cols: usize,
    experts: usize,
    shards: Vec<Shard>,
}

impl Shape {
    fn new(layout: Layout, [rows, cols]: [usize; 2], experts: usize, caps: &Caps) -> Self {
        let mut layout = DeviceLayout::from(layout);
        let unit = if experts == 1 { 1 } else { rows / experts };
        let shards = shards("w", &mut layout, Stack { rows, cols, unit }, caps).expect("rows fit");
        Self { layout, rows, cols, experts, shards }
    }
}

impl WeightHandle for Shape {
    fn shape(&self) -> Weight<'_> {
        let Self { layout, rows, cols, experts, shards } = self;
        Weight { index: 0, name: "w", layout, rows: *rows, cols: *cols, experts: *experts, shards }
    }
}

fn program(tokens: Tokens, caps: &Caps) -> Program<Shape> {
    Program::new(Planner { caps: Arc::new(caps.clone()), preferences: Arc::default() }, tokens)
}

/// A product with Q4_0 weights `[m, k]`.
fn product(shape: [usize; 2], tokens: Tokens, accumulate: bool, caps: &Caps) -> Program<Shape> {
    let w = Shape::new(format::Q4_0.layout(shape[1]), shape, 1, caps);
    let mut program = program(tokens, caps);
    let (x, y) = (program.slot("x", w.cols), program.slot("y", w.rows));
    let options = MatmulOptions::default();
    match accumulate {
        true => program.matmul_add(&w, x, y, &options),
        false => program.matmul(&w, x, y, &options),
    }
    .expect("a plan");
    program
}

/// The word of a field.
fn field(dispatch: &Dispatch, name: &str) -> usize {
    dispatch.params.get(name).unwrap_or_else(|| panic!("{} has no {name}", dispatch.name())) as usize
}

/// A Llama-3 output matrix exceeds a binding and the workgroups of one dimension.
#[test]
fn a_large_vocabulary_is_split() {
    let caps = caps(false, None);
    let program = product([128_256, 4096], Tokens::Exactly(1), false, &caps);
    let dispatches = program.plan().dispatches(1);
    assert_eq!(dispatches.len(), 3, "128,256 rows of 2,304 bytes in bindings of 128 MiB");
    assert_eq!(dispatches.iter().map(|(d, _)| field(d, "rows")).sum::<usize>(), 128_256);
    for (dispatch, span) in dispatches {
        let groups = dispatch.workgroups.count(span.count);
        let [x, y] = limits::fold(groups, caps.max_groups);
        assert!(x <= caps.max_groups && y <= caps.max_groups && u64::from(x) * u64::from(y) >= groups);
        let window = dispatch.window("y").expect("y is a slot");
        assert!(window.size <= caps.max_binding && window.offset % 256 == 0);
    }
}

/// Each element of y is covered by exactly one dispatch that overwrites, and the ranges of k join
/// up: for one number of tokens, and for each of many.
#[test]
fn a_plan_covers_everything_once() {
    let tight = Caps {
        max_binding: 8 << 10,
        max_loops: Some(150),
        binding_alignment: 32,
        ..caps(true, Some((8, 8)))
    };
    let (m, k) = (777, 1024);
    for tokens in [Tokens::Exactly(21), Tokens::UpTo(21)] {
        let program = product([m, k], tokens, false, &tight);
        for n in (1..=21).filter(|n| tokens.contains(*n)) {
            let mut covered = vec![0; m * n];
            for (d, span) in program.plan().dispatches(n) {
                let [x, y] = ["x", "y"].map(|name| d.window(name).expect("a slot"));
                assert!(x.size <= tight.max_binding && y.size <= tight.max_binding);
                let base = y.offset as usize / 4 + field(d, "y_offset");
                for col in span.first..span.first + span.count {
                    for row in 0..field(d, "rows") {
                        let chunks = field(d, "chunk_end") - field(d, "chunk_begin");
                        covered[base + col as usize * field(d, "y_stride") + row] += chunks;
                        assert_eq!(field(d, "accumulate") == 0, field(d, "chunk_begin") == 0);
                        assert_eq!(field(d, "finish") == 1, field(d, "chunk_end") == k / 32);
                    }
                }
            }
            assert!(covered.iter().all(|c| *c == k / 32), "{tokens} with {n}");
        }
    }
}

/// Whatever a plan is split into, one that adds to y overwrites none of it.
#[test]
fn a_plan_that_accumulates_overwrites_nothing() {
    let short = Caps { max_loops: Some(150), ..caps(true, Some((8, 8))) };
    let narrow = Caps { max_binding: 8 << 10, ..short.clone() };
    for (caps, (m, k, n), why) in [
        (&short, (64, 8192, 2), "ranges of k"),
        (&narrow, (777, 1024, 21), "shards and parts of the batch"),
        (&caps(false, None), (64, 8192, 64), "splits of k that are added up"),
    ] {
        let program = product([m, k], Tokens::Exactly(n), true, caps);
        let dispatches = program.plan().dispatches(n);
        assert!(dispatches.len() > 1, "{why}");
        for (d, _) in dispatches {
            let slot = d.window("y").map(|window| &program.plan().slots()[window.slot]);
            let adds = slot.is_some_and(|slot| slot.name == "y");
            assert_eq!(field(d, "accumulate"), usize::from(adds), "{why}: {}", d.name());
        }
    }
}

/// No dispatch keeps a device busy for long, and all of the batch is done.
#[test]
fn long_products_are_split() {
    for (caps, most) in [(caps(false, Some((32, 32))), 1 << 35), (caps(true, Some((8, 8))), 1 << 33)] {
        for (m, k, n) in [(4096, 14_336, 512), (4096, 4096, 16), (16_384, 53_248, 2048), (128_256, 4096, 100)]
        {
            let program = product([m, k], Tokens::Exactly(n), false, &caps);
            let dispatches = program.plan().dispatches(n);
            let matmuls = dispatches
                .iter()
                .filter(|(d, _)| d.kernel.operation == Operation::Matmul && field(d, "chunk_begin") == 0);
            let (mut all, mut longest) = (0, 0);
            for (d, span) in matmuls {
                let products = field(d, "rows") * span.count as usize * k;
                all += products;
                longest = longest.max(if span.count > 8 { products } else { 0 });
            }
            assert_eq!(all, m * k * n, "{m} x {k}, n = {n}");
            assert!(longest <= most, "{m} x {k}, n = {n}: {longest} products at once");
        }
    }
}

/// A device: what it can do, and how it takes activations.
fn devices() -> Vec<(Caps, MatmulOptions)> {
    let gpu = Caps { cooperative: Some(8), ..caps(false, Some((32, 32))) };
    let mut all = vec![];
    for caps in [gpu, caps(false, None), caps(true, Some((8, 8)))] {
        for activations in Activations::ALL {
            all.push((caps.clone(), MatmulOptions::with(activations)));
        }
    }
    all
}

/// What runs for n tokens is the same whether a program is made for n or for up to more: the same
/// kernels on the same tokens, so the same bits.
#[test]
fn a_number_of_tokens_is_done_as_if_there_were_no_other() {
    for (caps, options) in devices() {
        for (shape, experts) in [([512, 2048], 1), ([4096, 256], 1), ([128, 256], 4)] {
            let w = Shape::new(format::Q4_0.layout(shape[1]), shape, experts, &caps);
            let make = |tokens| {
                let mut program = program(tokens, &caps);
                let (x, y) = (program.slot("x", w.cols), program.slot("y", w.rows / experts));
                match experts {
                    1 => program.matmul(&w, x, y, &options),
                    _ => {
                        let experts = program.slot_of("experts", 2, Element::U32);
                        program.matmul_experts(&w, x, experts, y, &options)
                    }
                }
                .expect("a plan");
                program
            };
            let run = |program: &Program<Shape>, n: usize| -> Vec<_> {
                let all = program.plan().dispatches(n).into_iter();
                all.map(|(d, span)| (d.name(), d.config.clone(), span, d.workgroups)).collect()
            };
            let many = make(Tokens::UpTo(200));
            for n in (1..=200).filter(|n| *n < 80 || n % 7 == 0) {
                assert_eq!(run(&many, n), run(&make(Tokens::Exactly(n)), n), "{options:?}, {shape:?}, {n}");
            }
        }
    }
}

/// Every dispatch of every operation binds what its shader declares, and nothing else.
#[test]
fn programs_bind_what_shaders_declare() {
    let mut seen = std::collections::BTreeSet::new();
    for (caps, options) in devices() {
        for name in ["Q4_0", "IQ4_NL", "INT8", "F32"] {
            let format = format::by_name(name).expect("a format");
            if options.activations.check("w", &format.layout(2048)).is_err() {
                continue;
            }
            for tokens in [Tokens::Exactly(1), Tokens::UpTo(70)] {
                let mut program = program(tokens, &caps);
                let w = Shape::new(format.layout(2048), [128, 2048], 1, &caps);
                let stack = Shape::new(format.layout(2048), [128, 2048], 4, &caps);
                let half = program.slot_of("x", 2048, Element::F16);
                let (x, y) = (program.slot("x", 2048), program.slot("y", 256).features(64..192));
                let narrow = program.slot_of("y", 128, Element::F16);
                let [numbers, of_experts] =
                    ["rows", "experts"].map(|name| program.slot_of(name, 1, Element::U32));
                let gated = program.slot("gated", 128);
                let (decoded, of_stack) = (program.slot("decoded", 2048), program.slot("y", 32));
                let mut add = || -> crate::Result<()> {
                    program.matmul(&w, x, y, &options)?;
                    program.matmul_add(&w, half, narrow, &options)?;
                    program.matmul_gated(&w, half, y, gated, &options)?;
                    program.matmul_experts(&stack, x, of_experts, of_stack, &options)?;
                    program.get_rows(&w, numbers, decoded)?;
                    program.dequantize(&w, 3..100, decoded)?;
                    if name == "INT8" {
                        for threshold in [0.0, 6.0] {
                            let int8 = Activations::Int8(Threshold::new(threshold)?);
                            program.matmul(&w, half, y, &MatmulOptions::with(int8))?;
                        }
                    }
                    Ok(())
                };
                add().unwrap_or_else(|e| panic!("{name}: {e}"));
                for dispatch in program.plan().all_dispatches() {
                    let layout = match dispatch.weight {
                        Some(weight) => program.weights()[weight].layout.clone(),
                        None => format.layout(2048).into(),
                    };
                    let source = compose::compose(dispatch.kernel, &dispatch.config, &layout);
                    let mut declared: Vec<_> = source.bindings().into_iter().map(|b| b.name).collect();
                    declared.retain(|name| !["params", "span"].contains(&&**name));
                    let mut bound: Vec<_> = dispatch.bindings.iter().map(|(name, _)| *name).collect();
                    declared.sort();
                    bound.sort_unstable();
                    assert_eq!(declared, bound, "{} of {name}", dispatch.name());
                    seen.insert(dispatch.kernel.name);
                }
            }
        }
    }
    // What else there is, the gpu lane binds: a device refuses what is not the same.
    let multiply = KERNELS.iter().filter(|kernel| kernel.operation == Operation::Matmul);
    multiply.for_each(|kernel| assert!(seen.contains(kernel.name), "{}", kernel.name));
}

/// A program is plain data that a test can print.
#[test]
fn a_program_can_be_printed() {
    let program = product([64, 8192], Tokens::UpTo(64), false, &caps(false, None));
    let text = format!("{program:?}");
    for part in ["gemv", "reduce_split_k", "split_stride", "UpTo(64)", "Tiles"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Weights that take the same activations share what is made of them.
#[test]
fn activations_are_made_ready_once() {
    let caps = caps(false, Some((32, 32)));
    let (q4, q8) = (format::Q4_0, format::Q8_0);
    let mut program = program(Tokens::UpTo(8), &caps);
    let x = program.slot("x", 512);
    let options = MatmulOptions::with(Activations::Q8);
    let add = |program: &mut Program<Shape>, format: &'static Format, x, y| {
        let w = Shape::new(format.layout(512), [512, 512], 1, &caps);
        program.matmul(&w, x, y, &options).expect("a plan");
    };
    let ys = ["q", "k", "v"].map(|name| program.slot(name, 512));
    for (format, y) in [q4, q8, q4].into_iter().zip(ys) {
        add(&mut program, format, x, y);
    }
    let count = |program: &Program<Shape>| {
        let all = program.plan().dispatches(1);
        all.iter().filter(|(d, _)| d.kernel.name == "quantize_activations_q8").count()
    };
    assert_eq!(count(&program), 1);
    // What is written is other activations.
    add(&mut program, q4, ys[0], x);
    add(&mut program, q4, x, ys[0]);
    assert_eq!(count(&program), 3);
}

/// Rows lie side by side where a software adapter has a tile of them, and a shard has room for
/// whole tiles.
#[test]
fn rows_lie_side_by_side_on_software() {
    let software = caps(true, Some((8, 8)));
    let place = |caps: &Caps, name: &str, rows: usize, unit: usize| {
        let mut layout = DeviceLayout::from(format::by_name(name).expect("a format").layout(1024));
        let shards = shards("w", &mut layout, Stack { rows, cols: 1024, unit }, caps).expect("rows fit");
        assert_eq!(shards.iter().map(|s| s.rows.len()).sum::<usize>(), rows);
        let room = shards.iter().map(|s| s.bytes() / s.row_bytes()).sum::<u64>();
        (layout.interleaved(), shards.len(), room)
    };
    assert_eq!(place(&software, "Q4_0", 4096, 1), (0b01, 1, 4096), "codes, not scales");
    assert_eq!(place(&software, "Q4_0", 31, 1), (0b01, 1, 32), "one row is added");
    assert_eq!(place(&software, "Q4_0", 33, 1), (0, 1, 33), "nearly as much again would be added");
    assert_eq!(place(&software, "TQ2_0", 4096, 1), (0, 1, 4096), "no plane has 16 bytes for a chunk");
    assert_eq!(place(&caps(false, None), "Q4_0", 4096, 1), (0, 1, 4096), "a GPU");
    assert_eq!(place(&caps(true, None), "Q4_0", 4096, 1), (0b01, 1, 4096), "without subgroups, too");
    let row = 512 + 64;
    let small = Caps { max_binding: 100 * row, ..software };
    assert_eq!(place(&small, "Q4_0", 192, 1), (0b01, 2, 192), "shards of whole tiles");
    assert_eq!(place(&small, "Q4_0", 200, 100), (0, 2, 200), "an expert fits, but not with its tile");
    assert_eq!(place(&Caps { max_binding: 31 * row, ..small }, "Q4_0", 62, 1), (0, 2, 62), "no tile fits");
}

#[test]
fn what_no_device_could_hold_is_refused() {
    let caps = Caps { max_binding: 1024, ..caps(false, None) };
    let error =
        shards("wide", &mut format::F32.layout(4096).into(), Stack { rows: 1, cols: 4096, unit: 1 }, &caps)
            .expect_err("too wide");
    let text = error.to_string();
    assert!(text.contains("`wide`") && text.contains("16384") && text.contains("1024"), "{text}");
    let experts =
        shards("experts", &mut format::F32.layout(128).into(), Stack { rows: 8, cols: 128, unit: 4 }, &caps)
            .expect_err("an expert is too large");
    assert!(experts.to_string().contains("one expert of `experts`"), "{experts}");
}

/// Kernels whose workgroups the device does not hold are not candidates.
#[test]
fn candidates_fit_the_device() {
    let names = |caps: &Caps| -> Vec<String> {
        candidates(caps, &request(4096, 64)).iter().map(Candidate::name).collect()
    };
    let all = names(&Caps { max_workgroup_memory: 32 << 10, ..caps(false, None) });
    assert!(all.contains(&"gemm:128x64".into()), "{all:?}");
    let small = names(&Caps { max_workgroup_memory: 8 << 10, ..caps(false, None) });
    assert!(!small.is_empty() && small.iter().all(|n| !n.contains("64x64")), "{small:?}");
}

/// Large tiles for many tokens where workgroup memory holds them, small ones for few.
#[test]
fn tiles_of_matrices_suit_the_device_and_the_tokens() {
    let first = |edge: u32, memory: u32, batch: usize| {
        let caps = Caps { cooperative: Some(edge), max_workgroup_memory: memory, ..Caps::everything() };
        let request = Problem { activations: Activations::F16, ..request(4096, batch) };
        let request = Problem { rows: 16_384, ..request };
        let all = candidates(&caps, &request);
        assert!(all.iter().all(|c| c.config.workgroup_memory <= memory));
        all[0].name()
    };
    assert_eq!(first(16, 32 << 10, 512), "gemm_coop:128x128");
    assert_eq!(first(16, 16 << 10, 512), "gemm_coop:64x64");
    assert_eq!(first(16, 32 << 10, 64), "gemm_coop:128x64");
    assert_eq!(first(16, 32 << 10, 20), "gemm_coop:64x32");
    assert_eq!(first(8, 16 << 10, 512), "gemm_coop:64x64");
    assert_eq!(first(8, 16 << 10, 9), "gemm_coop:32x16");
}

/// Each split of k writes an area of its own, and one dispatch adds them up.
#[test]
fn splits_are_added_up() {
    let caps = caps(false, None);
    let program = product([64, 8192], Tokens::Exactly(64), false, &caps);
    let plan = program.plan().dispatches(64);
    let names: Vec<_> = plan.iter().map(|(d, _)| d.kernel.name).collect();
    assert_eq!(names, ["gemm", "reduce_split_k"]);
    let ((gemm, _), (sum, _)) = (plan[0], plan[1]);
    let splits = gemm.config.splits as usize;
    assert!(splits > 1 && field(gemm, "splits") == splits);
    assert!(field(gemm, "split_chunks") * splits >= 8192 / 32);
    let slot = |d: &Dispatch, name: &str| d.window(name).expect("a slot").slot;
    assert_eq!(slot(gemm, "y"), slot(sum, "x"));
    let slots = program.plan().slots();
    assert_eq!(slots[slot(sum, "y")].name, "y");
    assert_eq!(slots[slot(gemm, "y")].bytes, splits as u64 * 64 * 64 * 4);
}
