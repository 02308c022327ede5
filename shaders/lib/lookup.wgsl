// Codes are indices of a codebook of sixteen values here, and values are what `lookup` finds.
// Everything else is as in lib/quads.wgsl and lib/values_*.wgsl.

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const VALUE_SUMS = false;

fn values_init(lane: u32) {}

fn code_scale(i: u32) -> f32 {
    return 1.0;
}

fn centered_values(q: u32) -> vec4<f32> {
    return lookup(q);
}

fn nibble_values(v: vec4<u32>, i: u32) -> vec4<f32> {
    return lookup(nibble_quad(v, i));
}

fn decoded_quad(q: u32, s: vec2<f32>) -> vec4<f32> {
    return s.x * lookup(q);
}

fn value_scale(s: vec2<f32>) -> vec2<f32> {
    return s;
}
