// Codes that are looked up to halves: d times the values of two quads, as lib/quads_f16.wgsl.

fn pair_halves(a: u32, b: u32, d: f32, m: f32) -> array<vec4<f16>, 2> {
    return array<vec4<f16>, 2>(vec4<f16>(d * lookup(a)), vec4<f16>(d * lookup(b)));
}
