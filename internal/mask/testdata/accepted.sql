CREATE FUNCTION "public"."rehearsal_mask_b2852c9ff2f8"() RETURNS trigger LANGUAGE plpgsql AS $mask$
#variable_conflict use_column
DECLARE
	rehearsal_ipad pg_catalog.bytea := pg_catalog.decode(pg_catalog.current_setting('rehearsal.ipad', true), 'hex');
	rehearsal_opad pg_catalog.bytea := pg_catalog.decode(pg_catalog.current_setting('rehearsal.opad', true), 'hex');
	rehearsal_hash pg_catalog.bytea;
	rehearsal_in_0 pg_catalog.jsonb; rehearsal_out_0 pg_catalog.jsonb; rehearsal_member_0 pg_catalog.text; rehearsal_list_0 pg_catalog.jsonb[];
	rehearsal_in_1 pg_catalog.jsonb; rehearsal_out_1 pg_catalog.jsonb; rehearsal_member_1 pg_catalog.text; rehearsal_list_1 pg_catalog.jsonb[];
	rehearsal_in_2 pg_catalog.jsonb; rehearsal_out_2 pg_catalog.jsonb; rehearsal_member_2 pg_catalog.text; rehearsal_list_2 pg_catalog.jsonb[];
	rehearsal_in_3 pg_catalog.jsonb; rehearsal_out_3 pg_catalog.jsonb; rehearsal_member_3 pg_catalog.text; rehearsal_list_3 pg_catalog.jsonb[];
	rehearsal_text pg_catalog.text; rehearsal_elements pg_catalog.text[];
BEGIN
	IF pg_catalog.length(rehearsal_ipad) IS DISTINCT FROM 64 OR pg_catalog.length(rehearsal_opad) IS DISTINCT FROM 64 THEN
		RAISE EXCEPTION 'this session has no masking key: rehearsal.ipad or rehearsal.opad is not set';
	END IF;
	IF TG_LEVEL = 'STATEMENT' THEN
		RETURN NULL;
	END IF;
	IF NEW."user_email"::pg_catalog.text COLLATE "C" <> '' THEN
		rehearsal_hash := pg_catalog.sha256(rehearsal_opad || pg_catalog.sha256(rehearsal_ipad || pg_catalog.convert_to('email:' || pg_catalog.lower(pg_catalog.btrim(NEW."user_email"::pg_catalog.text COLLATE "C", E' \t\r\n') COLLATE "C"), 'UTF8')));
		NEW."user_email" := 'u' || pg_catalog.encode(pg_catalog.substr(rehearsal_hash, 1, 12), 'hex') || '@masked.invalid';
	END IF;
	NEW."session_id" := NULL;
	IF NEW."payload" IS NOT NULL THEN
		rehearsal_in_0 := NEW."payload"::pg_catalog.jsonb;
		CASE pg_catalog.jsonb_typeof(rehearsal_in_0)
		WHEN 'object' THEN
			rehearsal_out_0 := CASE WHEN pg_catalog.jsonb_typeof(rehearsal_in_0 -> 'a.b') NOT IN ('object', 'array') THEN pg_catalog.jsonb_build_object('a.b', rehearsal_in_0 -> 'a.b') ELSE '{}' END || CASE WHEN pg_catalog.jsonb_typeof(rehearsal_in_0 -> 'currency') NOT IN ('object', 'array') THEN pg_catalog.jsonb_build_object('currency', rehearsal_in_0 -> 'currency') ELSE '{}' END;
			rehearsal_in_1 := rehearsal_in_0 -> 'customer';
			IF rehearsal_in_1 IS NOT NULL THEN
				CASE pg_catalog.jsonb_typeof(rehearsal_in_1)
				WHEN 'object' THEN
					rehearsal_out_1 := '{}'::pg_catalog.jsonb;
					rehearsal_in_2 := rehearsal_in_1 -> 'email';
					IF rehearsal_in_2 IS NOT NULL THEN
						rehearsal_out_2 := NULL;
						IF pg_catalog.jsonb_typeof(rehearsal_in_2) NOT IN ('object', 'array') THEN
							rehearsal_text := rehearsal_in_2 #>> '{}';
							IF rehearsal_text <> '' THEN
								rehearsal_hash := pg_catalog.sha256(rehearsal_opad || pg_catalog.sha256(rehearsal_ipad || pg_catalog.convert_to('email:' || pg_catalog.lower(pg_catalog.btrim(rehearsal_text, E' \t\r\n') COLLATE "C"), 'UTF8')));
								rehearsal_text := 'u' || pg_catalog.encode(pg_catalog.substr(rehearsal_hash, 1, 12), 'hex') || '@masked.invalid';
							END IF;
							rehearsal_out_2 := coalesce(pg_catalog.to_jsonb(rehearsal_text), 'null');
						END IF;
						IF rehearsal_out_2 IS NOT NULL THEN
							rehearsal_out_1 := rehearsal_out_1 || pg_catalog.jsonb_build_object('email', rehearsal_out_2);
						END IF;
					END IF;
				WHEN 'array' THEN
					rehearsal_out_1 := '[]'::pg_catalog.jsonb;
				ELSE
					rehearsal_out_1 := NULL;
				END CASE;
				IF rehearsal_out_1 IS NOT NULL THEN
					rehearsal_out_0 := rehearsal_out_0 || pg_catalog.jsonb_build_object('customer', rehearsal_out_1);
				END IF;
			END IF;
			rehearsal_in_1 := rehearsal_in_0 -> 'lines';
			IF rehearsal_in_1 IS NOT NULL THEN
				CASE pg_catalog.jsonb_typeof(rehearsal_in_1)
				WHEN 'object' THEN
					rehearsal_out_1 := '{}'::pg_catalog.jsonb;
					FOR rehearsal_member_1, rehearsal_in_2 IN SELECT m.key, m.value FROM pg_catalog.jsonb_each(rehearsal_in_1) AS m LOOP
						CASE pg_catalog.jsonb_typeof(rehearsal_in_2)
						WHEN 'object' THEN
							rehearsal_out_2 := CASE WHEN pg_catalog.jsonb_typeof(rehearsal_in_2 -> 'sku') NOT IN ('object', 'array') THEN pg_catalog.jsonb_build_object('sku', rehearsal_in_2 -> 'sku') ELSE '{}' END;
						WHEN 'array' THEN
							rehearsal_out_2 := '[]'::pg_catalog.jsonb;
						ELSE
							rehearsal_out_2 := NULL;
						END CASE;
						IF rehearsal_out_2 IS NOT NULL THEN
							rehearsal_out_1 := rehearsal_out_1 || pg_catalog.jsonb_build_object(rehearsal_member_1, rehearsal_out_2);
						END IF;
					END LOOP;
				WHEN 'array' THEN
					rehearsal_list_1 := '{}'::pg_catalog.jsonb[];
					FOR rehearsal_i IN 0 .. pg_catalog.jsonb_array_length(rehearsal_in_1) - 1 LOOP
						rehearsal_in_2 := rehearsal_in_1 -> rehearsal_i;
						CASE pg_catalog.jsonb_typeof(rehearsal_in_2)
						WHEN 'object' THEN
							rehearsal_out_2 := CASE WHEN pg_catalog.jsonb_typeof(rehearsal_in_2 -> 'sku') NOT IN ('object', 'array') THEN pg_catalog.jsonb_build_object('sku', rehearsal_in_2 -> 'sku') ELSE '{}' END;
						WHEN 'array' THEN
							rehearsal_out_2 := '[]'::pg_catalog.jsonb;
						ELSE
							rehearsal_out_2 := NULL;
						END CASE;
						IF rehearsal_out_2 IS NOT NULL THEN
							rehearsal_list_1 := pg_catalog.array_append(rehearsal_list_1, rehearsal_out_2);
						END IF;
					END LOOP;
					rehearsal_out_1 := pg_catalog.to_jsonb(rehearsal_list_1);
				ELSE
					rehearsal_out_1 := NULL;
				END CASE;
				IF rehearsal_out_1 IS NOT NULL THEN
					rehearsal_out_0 := rehearsal_out_0 || pg_catalog.jsonb_build_object('lines', rehearsal_out_1);
				END IF;
			END IF;
		WHEN 'array' THEN
			rehearsal_out_0 := '[]'::pg_catalog.jsonb;
		ELSE
			rehearsal_out_0 := NULL;
		END CASE;
		NEW."payload" := coalesce(rehearsal_out_0, 'null');
	END IF;
	RETURN NEW;
END
$mask$;
CREATE TRIGGER "rehearsal_mask" BEFORE INSERT ON "public"."orders" FOR EACH ROW EXECUTE FUNCTION "public"."rehearsal_mask_b2852c9ff2f8"();
ALTER TABLE ONLY "public"."orders" ENABLE ALWAYS TRIGGER "rehearsal_mask";
CREATE TRIGGER "rehearsal_mask_key" BEFORE INSERT ON "public"."orders" FOR EACH STATEMENT EXECUTE FUNCTION "public"."rehearsal_mask_b2852c9ff2f8"();
ALTER TABLE ONLY "public"."orders" ENABLE ALWAYS TRIGGER "rehearsal_mask_key";

SELECT pg_catalog.count(*),
	pg_catalog.count(*) FILTER (WHERE NOT ("user_email" IS NULL) AND (("user_email"::pg_catalog.text COLLATE "C" = '' OR "user_email"::pg_catalog.text COLLATE "C" LIKE 'u________________________@masked.invalid' AND pg_catalog.translate(pg_catalog.substr("user_email"::pg_catalog.text COLLATE "C", 2, 24), '0123456789abcdef', '') = '')) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("session_id" IS NULL) AND (false) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("payload" IS NULL) AND (pg_catalog.jsonb_path_match("payload"::pg_catalog.jsonb, 'strict ($.type() == "null" || $.type() == "object" && !exists($.keyvalue() ? (!(@.key == "a.b" && (@.value.type() != "object" && @.value.type() != "array") || @.key == "currency" && (@.value.type() != "object" && @.value.type() != "array") || @.key == "customer" && (@.value.type() == "object" && !exists(@.value.keyvalue() ? (!(@.key == "email" && (@.value.type() == "null" || @.value.type() == "string" && (@.value == "" || @.value like_regex "^u[0-9a-f]{24}@masked[.]invalid$"))))) || @.value.type() == "array" && @.value.size() == 0) || @.key == "lines" && (@.value.type() == "object" && !exists(@.value.* ? (!(@.type() == "object" && !exists(@.keyvalue() ? (!(@.key == "sku" && (@.value.type() != "object" && @.value.type() != "array")))) || @.type() == "array" && @.size() == 0))) || @.value.type() == "array" && !exists(@.value[*] ? (!(@.type() == "object" && !exists(@.keyvalue() ? (!(@.key == "sku" && (@.value.type() != "object" && @.value.type() != "array")))) || @.type() == "array" && @.size() == 0))))))) || $.type() == "array" && $.size() == 0)')) IS NOT TRUE)
	FROM ONLY "public"."orders";

DROP TRIGGER "rehearsal_mask" ON "public"."orders";
DROP TRIGGER "rehearsal_mask_key" ON "public"."orders";
DROP FUNCTION "public"."rehearsal_mask_b2852c9ff2f8"();

CREATE FUNCTION "public"."rehearsal_mask_14447575adab"() RETURNS trigger LANGUAGE plpgsql AS $mask$
#variable_conflict use_column
DECLARE
	rehearsal_ipad pg_catalog.bytea := pg_catalog.decode(pg_catalog.current_setting('rehearsal.ipad', true), 'hex');
	rehearsal_opad pg_catalog.bytea := pg_catalog.decode(pg_catalog.current_setting('rehearsal.opad', true), 'hex');
	rehearsal_hash pg_catalog.bytea;
	rehearsal_sql record;
BEGIN
	IF pg_catalog.length(rehearsal_ipad) IS DISTINCT FROM 64 OR pg_catalog.length(rehearsal_opad) IS DISTINCT FROM 64 THEN
		RAISE EXCEPTION 'this session has no masking key: rehearsal.ipad or rehearsal.opad is not set';
	END IF;
	IF TG_LEVEL = 'STATEMENT' THEN
		RETURN NULL;
	END IF;
	SELECT (to_tsvector('simple', '')
) AS v1 INTO rehearsal_sql FROM (SELECT NEW.*) AS original;
	IF NEW."email"::pg_catalog.text COLLATE "C" <> '' THEN
		rehearsal_hash := pg_catalog.sha256(rehearsal_opad || pg_catalog.sha256(rehearsal_ipad || pg_catalog.convert_to('email:' || pg_catalog.lower(pg_catalog.btrim(NEW."email"::pg_catalog.text COLLATE "C", E' \t\r\n') COLLATE "C"), 'UTF8')));
		NEW."email" := 'u' || pg_catalog.encode(pg_catalog.substr(rehearsal_hash, 1, 12), 'hex') || '@masked.invalid';
	END IF;
	IF NEW."full_name"::pg_catalog.text COLLATE "C" <> '' THEN
		rehearsal_hash := pg_catalog.sha256(rehearsal_opad || pg_catalog.sha256(rehearsal_ipad || pg_catalog.convert_to('name:' || pg_catalog.replace(pg_catalog.lower(NEW."full_name"::pg_catalog.text COLLATE "C" COLLATE "C"), ' ', ''), 'UTF8')));
		NEW."full_name" := (GIVEN)[1 + (pg_catalog.get_byte(rehearsal_hash, 0) * 256 + pg_catalog.get_byte(rehearsal_hash, 1)) % 200] || CASE WHEN pg_catalog.strpos(pg_catalog.btrim(NEW."full_name"::pg_catalog.text COLLATE "C"), ' ') > 0 THEN ' ' || (FAMILY)[1 + (pg_catalog.get_byte(rehearsal_hash, 2) * 256 + pg_catalog.get_byte(rehearsal_hash, 3)) % 200] ELSE '' END;
	END IF;
	IF NEW."mobile"::pg_catalog.text COLLATE "C" <> '' THEN
		rehearsal_hash := pg_catalog.sha256(rehearsal_opad || pg_catalog.sha256(rehearsal_ipad || pg_catalog.convert_to('phone:' || pg_catalog.ltrim(pg_catalog.translate(NEW."mobile"::pg_catalog.text COLLATE "C", ' ()-./', ''), '+0'), 'UTF8')));
		NEW."mobile" := '+447700900' || pg_catalog.lpad(((pg_catalog.get_byte(rehearsal_hash, 0) * 256 + pg_catalog.get_byte(rehearsal_hash, 1)) % 1000)::pg_catalog.text, 3, '0');
	END IF;
	IF NEW."bio"::pg_catalog.text COLLATE "C" <> '' THEN
		rehearsal_hash := pg_catalog.sha256(rehearsal_opad || pg_catalog.sha256(rehearsal_ipad || pg_catalog.convert_to('text:' || pg_catalog.left(NEW."bio"::pg_catalog.text COLLATE "C", 64), 'UTF8')));
		NEW."bio" := pg_catalog.rtrim(pg_catalog.rpad((OPENINGS)[1 + (pg_catalog.get_byte(rehearsal_hash, 0) * 256 + pg_catalog.get_byte(rehearsal_hash, 1)) % 32], (pg_catalog.length(NEW."bio"::pg_catalog.text COLLATE "C") + 15) / 16 * 16, 'FILLER'));
	END IF;
	IF NEW."api_token"::pg_catalog.text COLLATE "C" <> '' THEN
		rehearsal_hash := pg_catalog.sha256(rehearsal_opad || pg_catalog.sha256(rehearsal_ipad || pg_catalog.convert_to('token:' || NEW."api_token"::pg_catalog.text COLLATE "C", 'UTF8')));
		NEW."api_token" := 'masked-' || pg_catalog.encode(pg_catalog.substr(rehearsal_hash, 1, 12), 'hex');
	END IF;
	NEW."reset_token" := NULL;
	NEW."age" := NULL;
	NEW."home" := NULL;
	NEW."search_doc" := rehearsal_sql.v1;
	RETURN NEW;
END
$mask$;
CREATE TRIGGER "rehearsal_mask" BEFORE INSERT ON "public"."users" FOR EACH ROW EXECUTE FUNCTION "public"."rehearsal_mask_14447575adab"();
ALTER TABLE ONLY "public"."users" ENABLE ALWAYS TRIGGER "rehearsal_mask";
CREATE TRIGGER "rehearsal_mask_key" BEFORE INSERT ON "public"."users" FOR EACH STATEMENT EXECUTE FUNCTION "public"."rehearsal_mask_14447575adab"();
ALTER TABLE ONLY "public"."users" ENABLE ALWAYS TRIGGER "rehearsal_mask_key";
DO $mask$
BEGIN
	PERFORM pg_catalog.set_config('search_path', '', true);
	PERFORM (to_tsvector('simple', '')
) AS v1 FROM ONLY "public"."users" AS original LIMIT 0;
END
$mask$;

SELECT pg_catalog.count(*),
	pg_catalog.count(*) FILTER (WHERE NOT ("email" IS NULL) AND (("email"::pg_catalog.text COLLATE "C" = '' OR "email"::pg_catalog.text COLLATE "C" LIKE 'u________________________@masked.invalid' AND pg_catalog.translate(pg_catalog.substr("email"::pg_catalog.text COLLATE "C", 2, 24), '0123456789abcdef', '') = '')) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("full_name" IS NULL) AND (("full_name"::pg_catalog.text COLLATE "C" = '' OR pg_catalog.split_part("full_name"::pg_catalog.text COLLATE "C", ' ', 1) = ANY (GIVEN) AND (pg_catalog.strpos("full_name"::pg_catalog.text COLLATE "C", ' ') = 0 OR pg_catalog.substr("full_name"::pg_catalog.text COLLATE "C", pg_catalog.strpos("full_name"::pg_catalog.text COLLATE "C", ' ') + 1) = ANY (FAMILY)))) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("mobile" IS NULL) AND (("mobile"::pg_catalog.text COLLATE "C" = '' OR "mobile"::pg_catalog.text COLLATE "C" ~ '^[+]447700900[0-9]{3}$')) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("bio" IS NULL) AND (("bio"::pg_catalog.text COLLATE "C" = '' OR pg_catalog.left("bio"::pg_catalog.text COLLATE "C", 16) = ANY (OPENINGS) AND pg_catalog.substr("bio"::pg_catalog.text COLLATE "C", 17) = pg_catalog.rpad('', pg_catalog.length("bio"::pg_catalog.text COLLATE "C") - 16, 'FILLER'))) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("api_token" IS NULL) AND (("api_token"::pg_catalog.text COLLATE "C" = '' OR "api_token"::pg_catalog.text COLLATE "C" LIKE 'masked-________________________' AND pg_catalog.translate(pg_catalog.substr("api_token"::pg_catalog.text COLLATE "C", 8, 24), '0123456789abcdef', '') = '')) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("reset_token" IS NULL) AND (false) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("age" IS NULL) AND (false) IS NOT TRUE),
	pg_catalog.count(*) FILTER (WHERE NOT ("home" IS NULL) AND (false) IS NOT TRUE),
	NULL::pg_catalog.int8
	FROM ONLY "public"."users";

DROP TRIGGER "rehearsal_mask" ON "public"."users";
DROP TRIGGER "rehearsal_mask_key" ON "public"."users";
DROP FUNCTION "public"."rehearsal_mask_14447575adab"();

