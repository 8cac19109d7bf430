// The panels' words in French; see words.mjs.

export const FR = {
  "Point at a sub-block, or reach it with Tab and the arrow keys.":
    "Pointez un sous-bloc, ou atteignez-le avec Tab et les flèches.",
  "A sparsity of 0 takes nothing of the plan.": "Une part de 0 ne prend rien du plan.",
  "This plan goes to {most} at most. Ask for that or less.":
    "Ce plan va jusqu'à {most} au plus. Demandez cela ou moins.",
  "removed": "retirés",
  "sparsity": "part retirée",
  "saves": "économie",
  "discrepancy": "écart",
  "{skipped} of {all} sub-blocks": "{skipped} sous-blocs sur {all}",
  "{skipped} of {all} sub-blocks, {reused} places re-used":
    "{skipped} sous-blocs sur {all}, {reused} places réutilisées",
  "{size} (exact, encoder of the last run)": "{size} (exact, encodeur de la dernière exécution)",
  "{size} (estimate)": "{size} (estimation)",
  "not measured": "non mesuré",
  "not a number": "pas un nombre",
  "Notes ({count})": "Notes ({count})",
  "Search done": "Recherche terminée",
  "Search cancelled": "Recherche annulée",
  "Search failed": "Échec de la recherche",
  "Searching": "Recherche",
  "Refining": "Affinage",
  "{skipped} skipped, {share}, {size} saved, discrepancy {value}":
    "{skipped} sautés, {share}, {size} économisés, écart {value}",
  "preparing": "préparation",
  "finding what to skip": "recherche de ce qui peut être sauté",
  "finding what to re-use": "recherche de ce qui peut être réutilisé",
  "{done} of about {all} measurements": "{done} mesures sur {all} environ",
  "about {time} left": "encore {time} environ",
  "{count} sets": "{count} ensembles",
  "{count} of {all} sets left": "{count} ensembles restants sur {all}",
  "Last tried: {level} of about {levels} sub-blocks skipped, {sets}, {prompts} of {all} prompts.":
    "Dernier essai : {level} sous-blocs sautés sur {levels} environ, {sets}, {prompts} prompts sur {all}.",
  "kept (stronger: more bytes)": "gardé (plus soutenu : plus d'octets)",
  "skipped": "sauté",
  "re-used, arc from its source": "réutilisé, arc depuis sa source",
  "rise in discrepancy": "hausse de l'écart",
  "Line: the best set of each level.": "Ligne : le meilleur ensemble de chaque niveau.",
  "Dots: the other beams.": "Points : les autres faisceaux.",
  "Dashed: the target.": "Tirets : l'objectif.",
  "attention": "attention",
  "feed-forward": "feed-forward",
  "Sub-block {index}, {kind} of layer {layer}: ": "Sous-bloc {index}, {kind} de la couche {layer} : ",
  "its own weights are gone, {source} runs here again. ": "ses poids sont retirés, {source} y repasse. ",
  "kept. ": "gardé. ",
  "skipped. ": "sauté. ",
  "{size}. ": "{size}. ",
  "Kept in every level.": "Gardé à tous les niveaux.",
  "Removed at these levels only: {levels}.": "Retiré à ces niveaux seulement : {levels}.",
  "Removed from the level of {share} on; discrepancy not measured.":
    "Retiré à partir du niveau de {share} ; écart non mesuré.",
  "Removed from the level of {share} on; discrepancy {value} there, {rise} more than before.":
    "Retiré à partir du niveau de {share} ; écart {value} à ce niveau, {rise} de plus qu'avant.",
  "{half} in fp16, {quarter} in fp8": "{half} en fp16, {quarter} en fp8",
  "{h} h {min} min": "{h} h {min} min",
  "{min} min {s} s": "{min} min {s} s",
  "{s} s": "{s} s",
  "Discrepancy against bytes saved: {count} levels, the last at {value}.":
    "Écart selon les octets économisés : {count} niveaux, le dernier à {value}.",
  "Discrepancy against bytes saved: no level yet.": "Écart selon les octets économisés : pas encore de niveau.",
  "{unit} saved": "{unit} économisés",
  "{value} with {skipped} sub-blocks skipped": "{value} avec {skipped} sous-blocs sautés",
  "Layer map of {slot}: {about}. Arrow keys go from sub-block to sub-block.":
    "Carte des couches de {slot} : {about}. Les flèches vont d'un sous-bloc à l'autre.",
  "The sparsity comes through a link: the plan's largest level is shown.":
    "La part vient d'un lien : le plus grand niveau du plan est montré.",
  "Pin plan into workflow": "Épingler le plan au workflow",
  "Writes the plan into this node, so that the saved workflow runs anywhere without a search.":
    "Écrit le plan dans ce nœud : le workflow enregistré tourne partout sans recherche.",
  "Replace by the last found plan": "Remplacer par le dernier plan trouvé",
  "Writes the plan of the last search over the pinned one.":
    "Écrit le plan de la dernière recherche par-dessus le plan épinglé.",
  "Unpin": "Désépingler",
  "Empties the node's plan text.": "Vide le texte du plan de ce nœud.",
  "What no picture reads goes free when this runs, without a plan; a plan takes out more.":
    "Ce qu'aucune image ne lit part gratuitement à l'exécution, sans plan ; un plan retire davantage.",
  "What no picture reads goes free when this runs. Above a sparsity of 0 the best plan at hand takes out more.":
    "Ce qu'aucune image ne lit part gratuitement à l'exécution. Au-dessus d'une part de 0, le meilleur plan disponible retire davantage.",
  "auto takes the best plan at hand for this encoder, which is known once this has run.":
    "auto prend le meilleur plan disponible pour cet encodeur, connu après une exécution.",
  "{change}, no bit of any picture changed": "{change}, aucun bit d'aucune image ne change",
  "{from} → {to} ({share} % smaller)": "{from} → {to} ({share} % de moins)",
  "with the plan: {change}": "avec le plan : {change}",
  "Everything that this CLIP holds is read: nothing goes free.":
    "Tout ce que ce CLIP contient est lu : rien ne part gratuitement.",
  "{name}: {why}": "{name} : {why}",
  "{some} and {last}": "{some} et {last}",
  "1 layer": "1 couche",
  "{count} layers": "{count} couches",
  "last norm": "dernière norme",
  "projection of the pooled output": "projection de la sortie agrégée",
  "language-model head": "tête du modèle de langage",
  "part for pictures and sounds": "partie pour les images et les sons",
  "embedding table, stays in RAM, off the card": "table d'embeddings, reste en RAM, hors de la carte",
  "embedding table, stays in its file": "table d'embeddings, reste dans son fichier",
  "this CLIP reads layer {read} of {layers}": "ce CLIP lit la couche {read} sur {layers}",
  "this CLIP reads layers {read} of {layers}": "ce CLIP lit les couches {read} sur {layers}",
  "this CLIP reads all {layers} layers": "ce CLIP lit les {layers} couches",
  "this CLIP reads layer {read} of {layers} and the last for the pooled output":
    "ce CLIP lit la couche {read} sur {layers}, et la dernière pour la sortie agrégée",
  "this CLIP reads no state behind it": "ce CLIP ne lit aucun état derrière elle",
  "this CLIP hands on no projected pooled output": "ce CLIP ne transmet pas de sortie agrégée projetée",
  "only writing text uses it": "seule l'écriture de texte s'en sert",
  "this workflow shows the encoder no pictures": "ce workflow ne montre pas d'image à l'encodeur",
  "a prompt needs a few hundred of its rows": "un prompt a besoin de quelques centaines de ses lignes",
  "Run the workflow once: the search is drawn here as it goes, and its plan can be pinned.":
    "Exécutez le workflow une fois : la recherche se dessine ici, et son plan peut être épinglé.",
  "The search has not found a plan yet. Run it once, or pin a plan into it.":
    "La recherche n'a pas encore trouvé de plan. Exécutez-la une fois, ou épinglez-y un plan.",
  "auto takes the published plan for the kind of CLIP, which is known once this has run.":
    "auto prend le plan publié pour ce type de CLIP, connu après une exécution.",
  "The last run failed before it came to this node.": "La dernière exécution a échoué avant d'arriver à ce nœud.",
  "The plan is known once this has run.": "Le plan est connu après une exécution.",
  "up to {change}":
    "jusqu'à {change}",
  "Layers and figures":
    "Couches et chiffres",
  "How much smaller: {count} levels":
    "Combien de moins : {count} niveaux",
  "beyond the plan's end, {most}":
    "au-delà de la fin du plan, {most}",
  "0: only what goes free":
    "0 : seulement ce qui part gratuitement",
  "Quality: not measured for this plan. Compare pictures.":
    "Qualité : non mesurée pour ce plan. Comparez des images.",
  "Quality: the text's features stay as they are, to a hundredth of their size.":
    "Qualité : les traits du texte restent tels quels, à un centième de leur taille près.",
  "Quality: about {lost} of 100 right pictures may be lost ({low} to {high}), measured on the pack's small pipeline. Compare pictures.":
    "Qualité : environ {lost} images justes sur 100 peuvent être perdues ({low} à {high}), mesuré sur la petite chaîne livrée avec le pack. Comparez des images.",
  "{from} → {to} in fp16 ({share} % smaller)": "{from} → {to} en fp16 ({share} % de moins)",
  "{from} → {to} in fp8": "{from} → {to} en fp8",
  "plan": "plan",
  "Settings that are seldom needed.": "Réglages rarement utiles.",
  "Fewer settings": "Moins de réglages",
  "More settings": "Plus de réglages",
}
