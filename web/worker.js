// The engine in a worker, so that nothing that it computes holds up the page.
import { handle } from './engine.js';

onmessage = ({ data }) => handle(data, (message) => postMessage(message));
