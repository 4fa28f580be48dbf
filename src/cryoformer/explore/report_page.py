"""The page of the report: one Jinja template, styles inside, nothing fetched from anywhere."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>CryoFormer report: {{ name }}</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --ground: #fff; --line: #d0d7de; --box: #f3f5f7;
  --warn: #fff4ec; --good: #00795a; --bad: #b34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ec; --soft: #9aa6b0; --ground: #14181c; --line: #343d46;
  --box: #1e242a; --warn: #2c2118; --good: #3fc79a; --bad: #f2994a; } }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; color: var(--ink);
  background: var(--ground); max-width: 1080px; margin: 0 auto; padding: 1.5rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; }
p.summary { font-size: 1.08rem; } p.small, figcaption, td, th { font-size: .88rem; } p.small { color: var(--soft); }
figure { margin: .5rem 0; } figcaption { color: var(--soft); }
/* Pictures are drawn on white, in the dark as well. */
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 3px; }
.warnings { border-left: 5px solid #D55E00; background: var(--warn); padding: .5rem 1rem; }
.warnings li { margin: .3rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.settings td { font-size: .8rem; padding: .05rem .6rem; }
td.name { font-family: ui-monospace, monospace; } td.value { overflow-wrap: anywhere; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--soft); }
.test { border-top: 1px solid var(--line); padding: .55rem 0; } .test p { margin: .15rem 0; }
.verdict { font-weight: 600; margin-left: .4rem; } .holds { color: var(--good); } .fails { color: var(--bad); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: .6rem; }
.surface img, .surface canvas { width: 100%; aspect-ratio: 1; display: block; border-radius: 3px; }
.surface canvas { touch-action: pan-y; cursor: grab; } .surface canvas, .surface.live img { display: none; }
.surface.live canvas { display: block; } .surface { break-inside: avoid; }
button { font: inherit; padding: .1rem .7rem; }
pre { background: var(--box); padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .86rem; }
@media (max-width: 640px) { body { padding: .8rem; font-size: 15px; } h1 { font-size: 1.35rem; }
  .gallery { grid-template-columns: repeat(2, 1fr); } th, td { padding: .2rem .35rem; }
  /* Figures of several panels keep their size: they are moved sideways instead of being shrunk until unreadable. */
  figure.panels { overflow-x: auto; } figure.panels img { max-width: none; height: 300px; } }
@media print { :root { --ink: #000; --soft: #444; --ground: #fff; --line: #ccc; --box: #f3f5f7; --warn: #fff4ec; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } .animation, button { display: none; }
  .surface.live img { display: block; } .surface.live canvas { display: none; }
  .gallery { grid-template-columns: repeat(5, 1fr); } .surface figcaption { font-size: 7pt; }
  .wide { overflow: visible; } .wide td, .wide th { font-size: 7pt; padding: .15rem .25rem; }
  figure, pre, tr, .warnings, .test { break-inside: avoid; }
  .settings td { font-size: 7pt; } h2 { break-after: avoid; } }
</style>
</head>
<body>
<h1>{{ name }}</h1>
<p class="small">CryoFormer {{ version }}, report of {{ date }}</p>
<p class="summary">{{ summary }} {{ motion_summary }}</p>
{% if warnings %}
<section class="warnings"><strong>Before you believe it</strong>
<ul>{% for warning in warnings %}<li>{{ warning|code }}</li>{% endfor %}</ul></section>
{% endif %}

<h2>What moves</h2>
{% for sentence in motion %}<p>{{ sentence }}</p>{% endfor %}
{% for sentence in truth_words %}<p>{{ sentence }}</p>{% endfor %}
{% for sentence in part_words + choice_words %}<p>{{ sentence }}</p>{% endfor %}
<figure class="panels"><img src="{{ images.morph }}"
 alt="Five states along the motion, and projections minus their mean">
<figcaption>{{ morph_caption }}</figcaption></figure>
<figure class="animation"><img src="{{ images.motion }}" alt="Animation of the motion">
<figcaption>The same motion there and back{% if truth %}: true on the left, reconstructed on the right{% endif %}.
</figcaption></figure>
<figure class="panels"><img src="{{ images.parts }}"
 alt="Flexibility, change of attention and parts, as colours of the surface">
<figcaption>The mean density, coloured by how much the density differs over the particles' states (flexibility), by how
much the network's attention changes, and by {% if part_words %}the parts that move as one{% else %}the parts that
change together{% if parts.count %} ({{ parts.count }} found){% endif %}{% endif %}. Outside the region that the network
decodes (volumes/flexible.mrc) flexibility and attention are zero by construction: grey there means "not modelled as
moving".</figcaption></figure>
{% if images.part_fsc %}<figure><img src="{{ images.part_fsc }}" alt="FSC of the half maps of every part">
<figcaption>Half maps of every part in its own frame, and of the consensus: their Fourier shell correlation, a part's
under its mask and corrected for it. All images show a part, so it can be known as well as what stays.</figcaption>
</figure>{% endif %}

<h2>States</h2>
<p class="small">The densities at the cluster centres, coloured by flexibility; as maps:
<code>analysis/states/state_01.mrc</code> and so on, or all in ChimeraX: <code>open analysis/states/states.cxc</code>.
Drag to turn.
<button id="spin" type="button" hidden>Stop turning</button></p>
<div class="gallery">
{% for entry in states %}<figure class="surface"><img src="{{ entry.address }}" alt="State {{ entry.state.number }}">
<canvas></canvas><script type="text/plain" class="mesh" data-vertices="{{ entry.state.mesh.positions|length }}"
 data-faces="{{ entry.state.mesh.faces|length }}">{{ entry.state.mesh.encoded }}</script>
<figcaption>State {{ loop.index }}: {{ "{:.1%}".format(clusters[loop.index0].share) }} ±
{{ "{:.1%}".format(clusters[loop.index0].share_deviation) }} of the particles</figcaption></figure>
{% endfor %}</div>
<script type="application/json" id="camera">{{ camera|tojson }}</script>

<h2>Conformational landscape</h2>
<figure class="panels"><img src="{{ images.landscape }}"
 alt="Energy over the first two principal components of the latents">
<figcaption>−log of the particles' density over the first two principal components, in kT above its lowest point; its
standard deviation over bootstrap samples of the particles{% if truth %}; and the particles coloured by the true motion
coordinate{% endif %}. It is a free energy only as far as the particles are an equilibrium sample and their latents are
exact: the ellipse shows how far a single particle's latent is uncertain.</figcaption></figure>
<div class="wide"><table>
<tr><th>state</th><th>particles</th><th>share</th><th>assigned alike</th><th>particle at its centre</th></tr>
{% for cluster in clusters %}<tr><td>{{ loop.index }}</td><td>{{ "{:,}".format(cluster.particles) }}</td>
<td>{{ "{:.1%}".format(cluster.share) }} ± {{ "{:.1%}".format(cluster.share_deviation) }}</td>
<td>{{ "{:.0%}".format(cluster.certainty) }}</td><td>{{ cluster.particle }}</td></tr>{% endfor %}</table></div>
<p class="small">K-means clusters describe the cloud; they do not say that there are that many states. Shares: ±
standard deviation over bootstrap samples and draws of the latents. Assigned alike: how often a draw from a particle's
latent posterior falls into the same cluster again. Densities: <code>analysis/states</code>.</p>

{% if outliers %}<h2>Particles that do not fit</h2>
<p>{{ outliers|code }}</p>
<figure><img src="{{ images.outliers }}" alt="Histogram of the outlier scores">
<figcaption>How much worse than expected for its view and defocus each image fits the density at its latent, in standard
deviations of the images that were held out of training. Scores beyond the right edge are counted in the last
bar.</figcaption></figure>
{% endif %}
<h2>Resolution</h2>
<figure class="panels"><img src="{{ images.halves }}"
 alt="Half-map FSC, local resolution, local uncertainty">
<figcaption>Half maps of the consensus: their Fourier shell correlation, the local resolution (windowed FSC 0.5), and
the uncertainty of the most populated state (spread of its latent's posterior and noise of the half maps) in units of
the contour level, in the slice with most of the motion. A part that moves is blurred in the consensus, and its local
resolution is that of the blur.</figcaption></figure>

{% if free_energies %}<h2>Free energy</h2>{% endif %}
{% for each in free_energies %}<p>{% for sentence in each.found.words %}{{ sentence }} {% endfor %}</p>
{% if images[each.name] %}<figure><img src="{{ images[each.name] }}" alt="Free energy {{ each.where }}">
<figcaption>Free energy {{ each.where }}, deconvolved by what every image says of its own place; interval to 95 %.
{{ each.found.caution }}</figcaption>
</figure>{% endif %}{% endfor %}

<h2>Is it real?</h2>
{% if validation %}<p class="small">What the same method finds where there is nothing to find
(<code>cryoformer validate</code>).</p>
{% if images.nulls %}<figure><img src="{{ images.nulls }}" alt="The run beside its null tests">
<figcaption>Grey: particles that do not move, or pure noise, simulated with the same poses, CTFs and noise. What stands
out to the right of them is not chance.</figcaption></figure>{% endif %}
{% for test in validation %}<section class="test"><h3>{{ test.title }}<span
 class="verdict {{ test.kind|replace(' ', '-') }}">{{ test.verdict }}</span></h3>
<p>{{ test.sentence }}</p>
{% if test.numbers %}<details><summary>Numbers</summary><table class="settings">{% for name, value in test.numbers %}
<tr><td class="name">{{ name }}</td><td class="value">{{ value }}</td></tr>{% endfor %}</table></details>{% endif %}
</section>
{% endfor %}
{% else %}<p>No null tests were made. They show what the same method finds where there is nothing to find:</p>
<pre>cryoformer validate {{ path }}
cryoformer analyze {{ path }}</pre>{% endif %}

{% if table %}
<h2>Against the truth</h2>
<figure class="panels"><img src="{{ images.fsc }}"
 alt="Fourier shell correlation to the truth">
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
<figure class="panels"><img src="{{ images.training }}"
 alt="Training curves">
<figcaption>Losses of different stages are computed at different resolutions and cannot be compared. Conditioning is the
spread of the decoded density over latents relative to the density's own spread: near zero, the decoder ignores the
latents.
</figcaption></figure>
{% endif %}

<h2>Data and settings</h2>
<details><summary>Everything in config.yaml</summary>
<div class="wide"><table class="settings">{% for name, value in settings %}<tr><td class="name">{{ name }}</td>
<td class="value">{{ value }}</td></tr>{% endfor %}</table></div></details>

<h2>Repeat and cite</h2>
<pre>{{ command }}</pre>
<p>Every setting is in <code>config.yaml</code>, every latent with its covariance in <code>latents.npz</code>.</p>
<p>If this helped your work, please cite: X. Liu, Y. Zeng, Y. Qin, H. Li, J. Zhang, L. Xu, J. Yu,
<em>CryoFormer: Continuous Heterogeneous Cryo-EM Reconstruction using Transformer-based Neural Representations</em>,
2023.</p>
<script>{{ script|safe }}</script>
</body>
</html>
"""
