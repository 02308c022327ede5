// Weights stay packed until they are multiplied; scales and offsets of their codes come in after
// the sums.

alias W = Raw;
const W_SCALES = select(1u, 2u, TWO_SCALES);  // of 32 weights
const W_SUMS = VALUE_SUMS;                   // whether sums of activations are needed

fn w_init(lane: u32) {
    values_init(lane);
}

fn w_load(p: Place, chunk: u32) -> W {
    return raw32(p, chunk);
}

fn w_quad(w: W, i: u32) -> vec4<f32> {
    return quad_values(w, i);
}

fn w_scale(w: W, chunk: u32, half: u32) -> vec2<f32> {
    return value_scale(raw_scale(w, chunk, half));
}
