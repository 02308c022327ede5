// Weights that are decoded as they are loaded: those of layouts that have no codes, and of lists of
// columns.

struct W {
    v: array<vec4<f32>, 8>,
}

const W_SCALES = 0u;
const W_SUMS = false;

fn w_init(lane: u32) {}

fn w_load(p: Place, chunk: u32) -> W {
    return W(weights32(p.row, 32u * chunk));
}

fn w_quad(w: W, i: u32) -> vec4<f32> {
    return w.v[i];
}

fn w_scale(w: W, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(1.0, 0.0);
}
