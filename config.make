# Copyright (C) the agntkey authors
#
# For nginx's configure, which reads it when its Makefile is there: the texts that
# are embedded. $agntkey_scripts is from config.

agntkey_embed=$ngx_addon_dir/tools/embed

cat << END >> $NGX_MAKEFILE

$NGX_OBJS/ngx_http_agntkey_openapi.inc: \\
	$ngx_addon_dir/docs/openapi.json $agntkey_embed
	$agntkey_embed ngx_http_agntkey_openapi $ngx_addon_dir/docs/openapi.json \\
		> \$@.new
	mv \$@.new \$@

END

for agntkey_name in $agntkey_scripts; do
    cat << END >> $NGX_MAKEFILE

$NGX_OBJS/ngx_http_agntkey_lua_$agntkey_name.inc: \\
	`echo $ngx_addon_dir/src/lua/*.lua` $agntkey_embed
	$agntkey_embed ngx_http_agntkey_lua_$agntkey_name \\
		$ngx_addon_dir/src/lua/$agntkey_name.lua > \$@.new
	mv \$@.new \$@

END
done
