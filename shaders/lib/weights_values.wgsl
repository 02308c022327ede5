// Weights stay packed until they are multiplied; they have no scales.

alias W = Raw;
const W_SCALES = 0u;
const W_SUMS = false;

fn w_init(lane: u32) {}

fn w_load(p: Place, chunk: u32) -> W {
    return raw32(p, chunk);
}

fn w_quad(w: W, i: u32) -> vec4<f32> {
    return quad_values(w, i);
}

fn w_scale(w: W, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(1.0, 0.0);
}
