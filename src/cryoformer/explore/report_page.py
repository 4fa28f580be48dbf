"""The page of the report: one Jinja template, styles inside, nothing fetched from anywhere."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>CryoFormer report: {{ name }}</title>
<style>
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; color: #1b1f24;
  background: #fff; max-width: 1080px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; }
p.summary { font-size: 1.08rem; } p.small, figcaption, td, th { font-size: .88rem; } p.small { color: #57606a; }
figure { margin: .5rem 0; } figure img { max-width: 100%; height: auto; } figcaption { color: #444c56; }
.warnings { border-left: 5px solid #D55E00; background: #fff4ec; padding: .5rem 1rem; }
.warnings li { margin: .3rem 0; }
.beside { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.beside > * { flex: 1 1 380px; min-width: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d0d7de; text-align: left; vertical-align: top; }
td.name { font-family: ui-monospace, monospace; } td.value { overflow-wrap: anywhere; }
pre { background: #f3f5f7; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .86rem; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } .animation { display: none; }
  .wide { overflow: visible; } .wide td, .wide th { font-size: 7pt; padding: .15rem .25rem; }
  .beside > * { flex: 1 1 40%; } figure, table, pre, .warnings { break-inside: avoid; } h2 { break-after: avoid; } }
</style>
</head>
<body>
<h1>{{ name }}</h1>
<p class="small">CryoFormer {{ version }}, report of {{ date }}</p>
<p class="summary">{{ summary }}</p>
{% if warnings %}
<section class="warnings"><strong>Before you believe it</strong>
<ul>{% for warning in warnings %}<li>{{ warning }}</li>{% endfor %}</ul></section>
{% endif %}

<h2>What moves</h2>
<figure><img src="{{ images.morph }}" alt="Five states along the motion, and projections minus their mean">
<figcaption>{{ morph_caption }}</figcaption></figure>
<figure class="animation"><img src="{{ images.motion }}" alt="Animation of the motion">
<figcaption>The same motion there and back{% if truth %}: true on the left, reconstructed on the right{% endif %}.
</figcaption></figure>

<h2>Conformational landscape</h2>
<div class="beside">
<figure><img src="{{ images.landscape }}" alt="Latent coordinates of all particles">
<figcaption>Latent coordinates of the particles along their first two principal components, coloured by
{% if truth %}the true motion coordinate{% else %}how many particles lie there{% endif %}.</figcaption></figure>
<div>
<table><tr><th>cluster</th><th>particles</th><th>share</th><th>particle at its centre</th></tr>
{% for cluster in clusters %}<tr><td>{{ loop.index }}</td><td>{{ "{:,}".format(cluster.size) }}</td>
<td>{{ "{:.1%}".format(cluster.share) }}</td><td>{{ cluster.particle }}</td></tr>{% endfor %}</table>
<p class="small">K-means clusters describe the cloud; they do not say that there are that many states. Their
volumes:</p>
<pre>{{ volumes_command }}</pre>
</div></div>

{% if table %}
<h2>Against the truth</h2>
<figure><img src="{{ images.fsc }}" alt="Fourier shell correlation to the truth">
<figcaption>Fourier shell correlation with the true state of each image, both maps under the same soft mask, averaged
over images. The noise-free mean of the true states is what a perfect method that is blind to the motion would give; the
mask alone shows what the shape of the mask contributes by itself.</figcaption></figure>
<div class="wide"><table><tr>{% for cell in table.header %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
<p class="small">AUC: area under the FSC over cycles per pixel, at most {{ "%.3f"|format(table.perfect) }}
({{ table.images }} images, mean ± standard deviation). Resolution: FSC 0.5, Nyquist
{{ "%.2f"|format(table.nyquist) }} Å. Spearman: absolute value.</p>
{% endif %}

{% if images.training %}
<h2>Training</h2>
<figure><img src="{{ images.training }}" alt="Training curves">
<figcaption>Losses of different stages are computed at different resolutions and cannot be compared. Conditioning is the
spread of the decoded density over latents relative to the density's own spread: near zero, the decoder ignores the
latents.
</figcaption></figure>
{% endif %}

<h2>Data and settings</h2>
<table>{% for name, value in settings %}<tr><td class="name">{{ name }}</td><td class="value">{{ value }}</td></tr>
{% endfor %}</table>

<h2>Repeat and cite</h2>
<pre>{{ command }}</pre>
<p>Every setting is in <code>config.yaml</code>, every latent with its covariance in <code>latents.npz</code>.</p>
<p>If this helped your work, please cite: X. Liu, Y. Zeng, Y. Qin, H. Li, J. Zhang, L. Xu, J. Yu,
<em>CryoFormer: Continuous Heterogeneous Cryo-EM Reconstruction using Transformer-based Neural Representations</em>,
2023.</p>
</body>
</html>
"""
