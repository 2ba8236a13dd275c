// Everything that the pages do beyond what HTML does by itself.
import { drawCharts } from "./charts.js";
import { readyCopying, readyConfirming, readyUploads } from "./forms.js";
import { followLive } from "./live.js";
import { readyTables } from "./tables.js";
import { localTimes } from "./times.js";

function ready(root) {
  readyTables(root);
  localTimes(root);
}

ready(document);
readyCopying();
readyConfirming();
readyUploads();
drawCharts();
followLive(ready);
